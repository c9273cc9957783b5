"""``lastgood compress``."""

from lastgood.cli.flags import Json
from lastgood.cli.output import note, print_json, print_table


def compress(model: str, /, *, run: str | None = None, json: Json = False) -> None:
    """
    Make a run's model smaller and faster: try the recipes that fit, measure each on this host, choose one.

    Example: lastgood compress digits

    Args:
        model: The model's name.
        run: Which run, or the archive it came in; default: the model's newest.
        json: Write JSON.
    """
    from lastgood.cli.progress import ProgressView
    from lastgood.pipelines.archive import hand_over
    from lastgood.pipelines.child import run_step
    from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult, tabulate
    from lastgood.settings import load_settings

    with hand_over(load_settings(), model, run) as opened, ProgressView() as view:
        run_step(opened, "compress", view)
    result = opened.read(COMPRESS_RESULT, CompressResult, step="compress")
    if json:
        print_json({"run": opened.id, "folder": opened.folder, "result": result})
    else:
        table = tabulate(result)
        print_table(f"{table.title} of {opened.id}", table.columns, table.rows)
        note(f"Next: lastgood gate {model} --run {run or opened.id}")
