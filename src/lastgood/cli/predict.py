"""``lastgood predict``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lastgood.cli.flags import Json, check_wait, read_whole

if TYPE_CHECKING:
    from lastgood.serving.client import Answer

_ROWS = 20  # of each output that are shown
_VALUES = 12  # of each row
_COLUMNS = ("version", "role", "output", "datatype", "shape", "row", "values")


def predict(
    model: str,
    /,
    *,
    file: Path,
    version: Annotated[int | None, Parameter(converter=read_whole)] = None,
    timeout: Annotated[float, Parameter(validator=check_wait)] = 30.0,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """
    Ask a served model for answers.

    Args:
        model: Which model.
        file: .npz with an array for each input; .json with lists by input name, or a whole request of the protocol; .png or .jpg for
            a model that takes an image.
        version: Ask this version, outside of any rollout; default: the one that the route deals.
        timeout: Seconds until the answer must be there.
        out: Write the answer's arrays to this .npz file.
        json: Write the protocol's answer as JSON.
    """
    from lastgood.cli.output import note, print_json
    from lastgood.serving.client import Predictor
    from lastgood.serving.client.answers import check_place, write_arrays
    from lastgood.serving.client.files import check_file, read_file
    from lastgood.settings import load_settings
    from lastgood.tensors import TensorSpec

    check_file(file)
    if out is not None:
        check_place(out)
    with Predictor(load_settings(), seconds=timeout) as predictor:
        specs = [TensorSpec.from_json(spec) for spec in predictor.metadata(model, version=version)["inputs"]]
        question = read_file(file, specs)
        for sentence in question.notes:
            note(sentence)
        if question.request is None:
            answer = predictor.predict(model, question.inputs, version=version)
        else:
            answer = predictor.ask(model, question.request, version=version)
    if out is not None:
        write_arrays(out, answer.outputs)
        note(f"{len(answer.outputs)} arrays were written to {out}.")
    if json:
        print_json(answer.to_json())
    else:
        _print(answer)


def _print(answer: "Answer") -> None:
    from lastgood.cli.output import print_table
    from lastgood.serving.client.answer import datatype_of

    rows: list[tuple[Any, ...]] = []
    for name, array in answer.outputs.items():
        about: tuple[Any, ...] = (f"{answer.model}@{answer.version}", answer.role, name, datatype_of(array), list(array.shape))
        if array.ndim == 0:
            rows.append((*about, "", _shorten([array.item()])))
            continue
        rows += [(*about, row, _shorten(array[row].ravel().tolist())) for row in range(min(len(array), _ROWS))] or [(*about, "", "no rows")]
        if len(array) > _ROWS:
            rows.append((*about, "…", f"{len(array) - _ROWS} more rows: --json or --out"))
    again = f", {answer.tries} attempts" if answer.tries > 1 else ""
    print_table(f"Answered in {answer.seconds * 1e3:.1f} ms{again}", _COLUMNS, rows)


def _shorten(values: list[Any]) -> str:
    shown = ", ".join(f"{value:.4g}" if isinstance(value, float) else f"{value!s:.60}" for value in values[:_VALUES])
    return f"{shown}{', …' if len(values) > _VALUES else ''}"
