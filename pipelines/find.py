"""Finding the pipeline of a model: named in lastgood.toml, a file of the model's name, or built in."""

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lastgood.pipelines.calling import calling
from lastgood.pipelines.errors import PipelineError, PipelineNotFoundError
from lastgood.pipelines.pipeline import Pipeline
from lastgood.refs import check_model_name
from lastgood.settings import PROJECT_FILE, Settings

BUILT_IN = {
    "digits": "lastgood.pipelines.digits:Digits",
    "tumour": "lastgood.pipelines.tumour:Tumour",
    "fraud": "lastgood.pipelines.fraud:Fraud",
    "recommend": "lastgood.pipelines.recommend:Recommend",
    "docs": "lastgood.pipelines.docs:Docs",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A pipeline and the file it was read from."""

    pipeline: Pipeline
    file: Path


def find_pipeline(settings: Settings, model: str) -> Found:
    """
    Find and load the pipeline of a model.

    Raises:
        InvalidRefError: The text cannot name a model.
        PipelineNotFoundError: No file, class or built-in pipeline of this name.
        PipelineError: The file cannot be imported, or holds no or several pipelines.
    """
    check_model_name(model)
    own = settings.models.get(model)
    if own is not None and own.pipeline is not None:
        return _load_named(settings, own.pipeline, model)
    stem = model.replace("-", "_")
    candidates = [settings.project / f"{stem}.py", settings.project / "pipelines" / f"{stem}.py"]
    for file in candidates:
        # This project's own pipelines/digits.py is the built-in one: importing it twice would make two classes of it.
        if file.is_file() and not (model in BUILT_IN and file.resolve().parent == Path(__file__).resolve().parent):
            return _instantiate(_pick(_import_file(file), file, None), file)
    if model in BUILT_IN:
        return _load_named(settings, BUILT_IN[model], model)
    raise PipelineNotFoundError(
        f"There is no pipeline for {model!r}: no {' or '.join(_shown(settings, file) for file in candidates)} in {settings.project}, "
        f"no [models.{model}] pipeline = in {PROJECT_FILE}, and the built-in ones are {', '.join(BUILT_IN)}. "
        f"Write one with: lastgood new {model}"
    )


def _load_named(settings: Settings, target: str, model: str) -> Found:
    where, _, name = target.partition(":")
    if where.endswith(".py"):
        file = (settings.project / where).resolve()
        if not file.is_file():
            raise PipelineNotFoundError(f"{PROJECT_FILE} names {where!r} as the pipeline of {model!r}, and {file} does not exist.")
        return _instantiate(_pick(_import_file(file), file, name or None), file)
    try:
        spec = importlib.util.find_spec(where)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise PipelineNotFoundError(
            f"{PROJECT_FILE} names {where!r} as the pipeline of {model!r}: expected FILE.py:Class or package.module:Class."
        )
    file = Path(spec.origin)
    with calling(file, "import"):
        module = importlib.import_module(where)
    return _instantiate(_pick(module, file, name or None), file)


def _import_file(file: Path) -> ModuleType:
    name = f"lastgood_project_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PipelineError(f"{file} cannot be imported as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Files beside the pipeline can be imported by it, as if it were run from its folder.
    sys.path.insert(0, str(file.parent))
    try:
        with calling(file, "import"):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module


def _pick(module: ModuleType, file: Path, name: str | None) -> type[Pipeline]:
    if name is not None:
        found: Any = getattr(module, name, None)
        if not (inspect.isclass(found) and issubclass(found, Pipeline)):
            raise PipelineError(f"{file.name} has no Pipeline class {name!r}; it has {_listed(_classes(module))}.")
        return found
    classes = _classes(module)
    if len(classes) != 1:
        raise PipelineError(
            f"{file.name} has {_listed(classes)}; expected exactly one. Write `class {file.stem.title().replace('_', '')}(Pipeline)`, "
            f'or name one in {PROJECT_FILE}: pipeline = "{file.name}:CLASS".'
        )
    return classes[0]


def _classes(module: ModuleType) -> list[type[Pipeline]]:
    return [
        found
        for found in vars(module).values()
        if inspect.isclass(found) and issubclass(found, Pipeline) and found.__module__ == module.__name__
    ]


def _listed(classes: list[type[Pipeline]]) -> str:
    return ", ".join(found.__name__ for found in classes) if classes else "no Pipeline class"


def _instantiate(found: type[Pipeline], file: Path) -> Found:
    with calling(file, f"{found.__name__}()"):
        return Found(found(), file)


def _shown(settings: Settings, file: Path) -> str:
    return str(file.relative_to(settings.project))
