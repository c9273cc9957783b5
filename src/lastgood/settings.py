"""
What a project can set: environment variables, then ``lastgood.toml`` at the project's root, then defaults.

The project is the nearest folder upwards that holds ``lastgood.toml``, else the current folder. Everything
lastgood writes for it lies under ``.lastgood/`` there (``LASTGOOD_HOME`` elsewhere).
"""

import hashlib
import ipaddress
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from lastgood.addresses import is_loopback
from lastgood.errors import ConfigurationError
from lastgood.oncall import OnCall
from lastgood.refs import check_model_name
from lastgood.replicas import ServingSettings
from lastgood.telemetry import TelemetrySettings

PROJECT_FILE = "lastgood.toml"


def _check_port(value: object) -> object:
    if isinstance(value, bool):  # which would be port 1 or none
        raise ValueError("expected a port's number, such as 8000")  # noqa: TRY004 - pydantic takes no TypeError
    return value


Port = Annotated[int, BeforeValidator(_check_port), Field(ge=1, le=65535)]
PortOrNone = Annotated[int, BeforeValidator(_check_port), Field(ge=0, le=65535)]


class ModelSettings(BaseModel):
    """One ``[models.NAME]`` table: where its pipeline is, and what it overrides in the pipeline's own settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: str | None = Field(default=None, description="FILE.py:Class below the project, or package.module:Class")
    gate: dict[str, Any] = Field(default_factory=dict, description="conditions, over the pipeline's own")
    rollout: dict[str, Any] = Field(default_factory=dict, description="rollout policy, over the pipeline's own")
    predictions: dict[str, Any] = Field(default_factory=dict, description="prediction log, labels and drift")
    update: dict[str, Any] = Field(default_factory=dict, description="when and how it is trained again")


class DockerSettings(BaseModel):
    """The ``[docker]`` table: where containers run, and what each replica may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(default="lastgood-serve", min_length=1, description="image of a replica; the Dockerfile's target serve")
    socket: str = Field(default="unix:///var/run/docker.sock", pattern=r"^unix://(/[^/]+)+$", description="the engine, on this machine")
    memory_bytes: int = Field(default=1 << 30, ge=64 << 20, description="a replica that needs more is killed")
    cpus: float = Field(default=1.0, ge=0.01)
    pids: int = Field(default=128, ge=8, description="processes and threads")


class FrontSettings(BaseModel):
    """The ``[front]`` table: how the inference ports are reached; absolute paths, or relative to the project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unix_socket: Path | None = Field(default=None, description="socket file to listen on besides the port, for this user alone")
    tls_certificate: Path | None = Field(default=None, description="PEM file; the port speaks TLS, the socket file does not")
    tls_key: Path | None = Field(default=None, description="PEM file with the certificate's private key, without a password")
    ca_file: Path | None = Field(default=None, description="authorities that clients here trust; default: the certificate alone")
    awake_seconds: float = Field(
        default=0.0005,
        ge=0.0,
        le=0.01,
        description="where requests follow each other within this time, the gateway looks for the next one instead of sleeping; 0: never",
    )

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: set both, or none")
        return self

    def resolved(self, project: Path) -> Self:
        """Give the same with absolute paths."""
        paths = {name: project / value.expanduser() for name, value in self if isinstance(value, Path)}
        return self.model_copy(update=paths)


class JenkinsSettings(BaseModel):
    """The ``[jenkins]`` table: the controller that `lastgood trigger jenkins` starts builds on, and where it finds this project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(default=None, description="of the controller, as it names itself")
    user: str | None = Field(default=None, description="whose API token is in token_file or JENKINS_API_TOKEN")
    token_file: Path | None = Field(default=None, description="file with the API token")
    repository: str | None = Field(default=None, description="what the job checks out; default: git's remote origin")
    branch: str = Field(default="main", pattern=r"^[\w][\w./-]*$", description="whose Jenkinsfile the job follows")
    credentials: str | None = Field(default=None, description="id of the credentials in Jenkins that may read the repository")


SECRETS: Final = ("token_file", "encryption_key_file")  # settings that name a file with a secret


class Settings(BaseSettings):
    """Everything that may differ between two installations; secrets come from files, never from here."""

    model_config = SettingsConfigDict(env_prefix="LASTGOOD_", extra="forbid", frozen=True)

    project: Path = Field(description="folder the relative paths of lastgood.toml start from")
    home: Path = Field(description="folder for everything lastgood writes")
    host: str = Field(default="127.0.0.1", description="address the gateway listens on; anything but loopback needs token_file")
    token_file: Path | None = Field(default=None, description="file with the bearer token that callers must send")
    database: str | None = Field(
        default=None, description="URL of the catalogue, sqlite:///PATH or postgresql://…; default: SQLite under home"
    )
    files: str | None = Field(
        default=None, description="folder or fsspec URL (s3://BUCKET/PREFIX) of the versions' files; default: under home"
    )
    encryption_key_file: Path | None = Field(default=None, description="file with the key that stored files are encrypted under")
    port_rest: Port = 8000
    port_grpc: PortOrNone = Field(default=8001, description="0: predictions over REST only")
    port_control: Port = 8002
    port_prefect: Port = 4200
    port_prometheus: Port = 19090
    port_alertmanager: Port = 19093
    backend: Literal["process", "docker"] = Field(default="process", description="what each replica is: a child process or a container")
    docker: DockerSettings = Field(default_factory=DockerSettings, description="containers, where backend = 'docker'")
    front: FrontSettings = Field(
        default_factory=FrontSettings, description="socket file and TLS of the inference port, and how long it stays awake"
    )
    serving: ServingSettings = Field(default_factory=ServingSettings, description="how many replicas, and how each one runs")
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings, description="access log and spans of the gateway")
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    jenkins: JenkinsSettings = Field(default_factory=JenkinsSettings, description="where `lastgood trigger jenkins` starts builds")
    oncall: dict[str, Any] = Field(
        default_factory=dict, description="whom to tell when something is wrong; read when somebody is to be told"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over ``lastgood.toml``, which `load_settings` passes as init values."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @property
    def database_url(self) -> str:
        """The catalogue's URL: the one set, or SQLite under home."""
        return self.database or f"sqlite:///{self.home / 'registry' / 'catalogue.db'}"

    @property
    def files_place(self) -> str:
        """Where the versions' files are: the folder or URL set, or a folder under home."""
        return self.files or str(self.home / "registry")

    @property
    def people(self) -> OnCall:
        """
        Whom to tell, with absolute paths.

        Raises:
            ConfigurationError: A name or value of ``[oncall]`` cannot be. Not raised earlier: a typing error about who is told
                must not keep anybody from rolling back.
        """
        try:
            return OnCall.model_validate(self.oncall).resolved(self.project)
        except ValidationError as exc:
            raise ConfigurationError(_explain(exc, self.project / PROJECT_FILE, OnCall, "oncall")) from exc

    @property
    def registry_id(self) -> str:
        """A short name of the catalogue, which says nothing of it: two processes of one installation have the same."""
        return hashlib.sha256(self.database_url.encode()).hexdigest()[:16]

    @property
    def address(self) -> str:
        """The host as a URL has it: all addresses of a machine are its own loopback for a client there, IPv6 goes in brackets."""
        try:
            host = ipaddress.ip_address(self.host)
        except ValueError:
            return self.host
        if host.is_unspecified:
            host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")
        return str(host) if host.version == 4 else f"[{host}]"

    @property
    def rest_url(self) -> str:
        """Where predictions are asked for."""
        scheme = "http" if self.front.tls_certificate is None else "https"
        return f"{scheme}://{self.address}:{self.port_rest}"

    @property
    def grpc_address(self) -> str | None:
        """Where predictions are asked for over gRPC, with TLS where `rest_url` has it; None where they are not."""
        return f"{self.address}:{self.port_grpc}" if self.port_grpc else None

    @property
    def control_url(self) -> str:
        """Where metrics, alerts and rollouts are."""
        return f"http://{self.address}:{self.port_control}"


def find_project(start: Path) -> Path:
    """Give the nearest folder upwards that holds ``lastgood.toml``, else ``start``."""
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    return start


def load_settings(start: Path | None = None) -> Settings:
    """
    Read the project's settings.

    Args:
        start: Where the project is looked for, upwards; default: LASTGOOD_PROJECT, which processes started here are given, or the
            working folder.

    Raises:
        ConfigurationError: The file is not TOML, or a name or value in it or in the environment is not known.
    """
    project = find_project((start or Path(os.environ.get("LASTGOOD_PROJECT") or Path.cwd())).resolve())
    path = project / PROJECT_FILE
    values: dict[str, Any] = {}
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path} is not valid TOML: {exc}.") from exc
    if "project" in values:
        raise ConfigurationError(f"{path} sets 'project'; it is the folder this file lies in, and cannot be set.")
    _check_names(values)
    values["project"] = project
    values.setdefault("home", project / ".lastgood")
    try:
        settings = Settings(**values)
    except ValidationError as exc:
        raise ConfigurationError(_explain(exc, path)) from exc
    except SettingsError as exc:
        raise ConfigurationError(f"{exc}: a variable LASTGOOD_… that stands for a table must hold JSON.") from exc
    _check_ports(settings)
    if settings.token_file is None and not is_loopback(settings.host):
        raise ConfigurationError(f"host = {settings.host!r} can be reached from other machines: set token_file too, or use 127.0.0.1.")
    paths = {"project": project, "home": (_find_base("home", project) / settings.home).resolve()}
    # Not resolved: what a mounted secret's link leads to is replaced when the secret is.
    secrets = {name: _find_base(name, project) / file.expanduser() for name in SECRETS if (file := getattr(settings, name)) is not None}
    files = settings.files
    if files is not None and "://" not in files:
        files = str((_find_base("files", project) / Path(files).expanduser()).resolve())
    return settings.model_copy(update={**paths, **secrets, "files": files, "front": settings.front.resolved(project)})


def _find_base(name: str, project: Path) -> Path:
    """Give what a path is relative to: the environment's to where the command runs, the file's to the file."""
    return Path.cwd() if f"LASTGOOD_{name.upper()}" in os.environ else project


def _check_ports(settings: Settings) -> None:
    """Refuse a port that two parts of the installation would listen on."""
    names: dict[int, str] = {}
    for name in Settings.model_fields:
        port = getattr(settings, name) if name.startswith("port_") else 0
        if port and port in names:
            raise ConfigurationError(f"{names[port]} and {name} are both {port}; expected a port for each. Change one of them.")
        names[port] = name


def _check_names(values: dict[str, Any]) -> None:
    """Refuse names that would be ignored silently: of models in the file, of variables in the environment."""
    serving = values.get("serving", {})
    of_serving = serving.get("models", {}) if isinstance(serving, dict) else {}
    for name in (*values.get("models", {}), *(of_serving if isinstance(of_serving, dict) else {})):
        check_model_name(name)
    known = {f"LASTGOOD_{name.upper()}" for name in Settings.model_fields}
    if unknown := sorted(name for name in os.environ if name.startswith("LASTGOOD_") and name not in known):
        raise ConfigurationError(f"{', '.join(unknown)} is no setting; expected some of: {', '.join(sorted(known))}.")


def _explain(exc: ValidationError, path: Path, root: type[BaseModel] = Settings, *table: str) -> str:
    """Say what is wrong with each value; where names are not known, which ones their tables have."""
    lines, tables = [], {}
    for problem in exc.errors():
        where = ".".join(map(str, [*table, *problem["loc"]]))
        # What stands in the wrong place, or anywhere under oncall, may be a secret.
        value = "" if where.startswith("oncall") or isinstance(problem.get("input"), dict) else f" = {problem.get('input')!r:.80}"
        lines.append(f"{where}{value}: {problem['msg'].removeprefix('Value error, ')}")
        if problem["type"] == "extra_forbidden":
            place = problem["loc"][:-1]
            tables[".".join(map(str, [*table, *place]))] = _list_names(root, place)
    known = [f" Known settings{f' of [{name}]' if name else ''}: {', '.join(names)}." for name, names in tables.items() if names]
    return f"Settings from {path.name} and LASTGOOD_… variables are not valid: {'; '.join(lines)}.{''.join(known)}"


def _list_names(root: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Give the names that a table may hold, none if it cannot be told what kind of table stands there."""
    kind: Any = root
    for part in place:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = kind.model_fields[str(part)].annotation
        elif get_args(kind):
            kind = get_args(kind)[-1]  # of a table of tables
        if NoneType in get_args(kind):
            kind = get_args(kind)[0]
    fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
    return sorted({field.alias or name for name, field in fields.items()} - {"project"})


__all__ = [
    "PROJECT_FILE",
    "DockerSettings",
    "FrontSettings",
    "JenkinsSettings",
    "ModelSettings",
    "Settings",
    "find_project",
    "is_loopback",
    "load_settings",
]
