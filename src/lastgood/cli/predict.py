"""``lastgood predict``."""

from pathlib import Path
from typing import Any

from lastgood.cli.flags import Json


def predict(model: str, /, *, file: Path, json: Json = False) -> None:
    """
    Ask a served model for answers.

    Args:
        model: Which model.
        file: inputs by name: .npz with an array for each, or .json with {"NAME": nested lists}.
        json: Write the whole answer as JSON.
    """
    from lastgood.cli.output import print_fields, print_json
    from lastgood.serving.client import Predictor
    from lastgood.settings import load_settings

    with Predictor(load_settings()) as predictor:
        specs = {spec["name"]: spec for spec in predictor.metadata(model)["inputs"]}
        answer = predictor.infer(model, _read(file, specs))
    if json:
        print_json(answer)
        return
    fields = [(output["name"], f"{output['datatype']} {output['shape']}: {_shorten(output['data'])}") for output in answer["outputs"]]
    print_fields(f"{answer['model_name']}@{answer['model_version']}", fields)


def _read(file: Path, specs: dict[str, Any]) -> list[dict[str, Any]]:
    import numpy as np

    from lastgood.errors import UsageError

    if not file.is_file():
        raise UsageError(f"There is no file {file}; expected .npz or .json with an array for each of: {', '.join(specs)}.")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                given = {name: arrays[name] for name in arrays.files}
        elif file.suffix == ".json":
            import msgspec

            value = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
            if value.keys() == {"inputs"} and "inputs" not in specs:
                return list(value["inputs"])  # a whole request, as curl would send it
            given = {name: np.array(own) for name, own in value.items()}
        else:
            raise UsageError(
                f"{file.name} ends with {file.suffix!r}; expected .npz or .json with an array for each of: {', '.join(specs)}."
            )
    except (OSError, ValueError) as exc:
        raise UsageError(f"{file} cannot be read: {exc}. Expected an array for each of: {', '.join(specs)}.") from exc
    if given.keys() != specs.keys():
        raise UsageError(f"{file.name} has {sorted(given)}; expected an array for each of: {', '.join(specs)}.")
    return [
        {"name": name, "datatype": specs[name]["datatype"], "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in given.items()
    ]


def _shorten(values: list[Any], most: int = 12) -> str:
    shown = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values[:most])
    return f"{shown}{', …' if len(values) > most else ''}"
