"""``[serving]``: what holds for every model, what one model says otherwise, and what cannot be."""

import os
from pathlib import Path
from typing import get_args

import pytest

from lastgood.errors import ConfigurationError
from lastgood.replicas import Provider, ReplicaSettings, ServingSettings
from lastgood.runtime import PROVIDERS, ProviderMissingError
from lastgood.serving.backends.choice import make_backend
from lastgood.settings import Settings, load_settings
from lastgood.stack.services import environment

SETTINGS = """
[serving]
replicas = 2
memory_bytes = 536870912

[serving.models.digits]
replicas = "per-core"
threads = 4
providers = ["cuda", "cpu"]
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LASTGOOD_")]:
        monkeypatch.delenv(name)


def load(folder: Path, text: str) -> Settings:
    (folder / "lastgood.toml").write_text(text, "utf-8")
    return load_settings(folder)


def test_a_model_has_what_it_says_and_what_holds_for_all(tmp_path: Path) -> None:
    """What a model does not set is the common value, what nobody sets the default; per core are the cores of this process."""
    serving = load(tmp_path, SETTINGS).serving
    assert ReplicaSettings(replicas=2, memory_bytes=1 << 29) == serving.of("tumour")
    digits = serving.of("digits")
    assert ReplicaSettings(replicas="per-core", threads=4, providers=("cuda", "cpu"), memory_bytes=1 << 29) == digits
    assert len(os.sched_getaffinity(0)) == digits.count()
    assert 2 == serving.of("tumour").count()
    assert ReplicaSettings() == load(tmp_path, "").serving.of("digits")


def test_a_child_process_has_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the variables that a stack's processes get: a model's default does not come to hide the common value."""
    here = load(tmp_path, SETTINGS)
    for name, value in environment(here).items():
        monkeypatch.setenv(name, value)
    there = load(tmp_path, "").serving
    assert [here.serving.of(name) for name in ("digits", "tumour")] == [there.of(name) for name in ("digits", "tumour")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[serving]\nreplica = 2",
            r"serving.replica = 2: Extra .* Known settings of \[serving\]: batch_bytes, .*replicas, ",
        ),
        (
            "[serving.models.m]\nreplcas = 2",
            r"serving.models.m.replcas = 2: Extra .*Known settings of \[serving.models.m\]: .*threads\.$",
        ),
        ("[serving]\nreplicas = 0", r"serving.replicas = 0: .*expected a number from 1 to 64, or 'per-core'"),
        ("[serving]\nreplicas = true", r"serving.replicas = True: .*expected a number"),
        ('[serving.models.m]\nreplicas = "many"', r"serving.models.m.replicas = 'many': .*expected a number"),
        ("[serving]\nthreads = 0", r"serving.threads = 0: "),
        ('[serving]\nproviders = ["gpu"]', r"serving.providers.0 = 'gpu': Input should be 'cpu', 'openvino', 'cuda' or 'tensorrt'"),
        ("[serving]\nproviders = []", r"serving.providers = \[\]: "),
        ('[serving]\nproviders = ["cpu", "cpu"]', r"names one twice"),
        ("[serving]\nmemory_bytes = 1000", r"serving.memory_bytes = 1000: .*greater than or equal to 268435456"),
        ("[serving]\nhang_seconds = 0.01", r"serving.hang_seconds = 0.01: "),
        ("[serving]\nloaded_bytes = 1000", r"serving.loaded_bytes = 1000: .*greater than or equal to 67108864"),
        ("[serving.models.m]\nloaded_bytes = 100000000", r"serving.models.m.loaded_bytes = 100000000: Extra inputs are not permitted"),
        ("[serving]\nkeep_loaded = 3", r"serving.keep_loaded = 3: "),
        ("serving = 3", r"serving = 3: "),
        ("[serving]\nmodels = 3", r"serving.models = 3: "),
        ('[serving.models."A b"]\nthreads = 2', r"A b"),
    ],
)
def test_what_cannot_be_is_named_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    """Before anything is started."""
    with pytest.raises(Exception, match=sentence) as caught:
        load(tmp_path, text)
    assert 2 == getattr(caught.value, "exit_code", None)


def test_a_provider_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """For any model; with one that is there after it, it is no error."""
    for table in ("serving", "serving.models.m"):
        settings = load(tmp_path, f'[{table}]\nproviders = ["tensorrt", "cuda"]')
        with pytest.raises(ProviderMissingError, match=r"\['tensorrt', 'cuda'\].*has none of them, it has \['cpu'\]") as caught:
            make_backend(settings)
        assert isinstance(caught.value, ConfigurationError)
    make_backend(load(tmp_path, '[serving]\nproviders = ["cuda", "cpu"]'))


def test_every_provider_that_can_be_set_has_a_name_in_onnx_runtime() -> None:
    """The two tables are one."""
    assert set(PROVIDERS) == set(get_args(Provider))


def test_every_field_is_in_the_documentation() -> None:
    """With its default."""
    page = (Path(__file__).parents[2] / "docs" / "replicas.md").read_text("utf-8")
    for name, field in ServingSettings.model_fields.items():
        assert field.description, name
        if name != "models":
            shown = '["cpu"]' if name == "providers" else "-" if field.default is None else str(field.default).lower()
            assert f"| `{name}` | {shown} |" in page, name
