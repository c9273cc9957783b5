"""``lastgood quality``."""

from lastgood.cli.flags import Json


def quality(model: str, /, *, json: Json = False) -> None:
    """
    Show what is known of a model's answers afterwards: accuracy by labels, drift, the prediction log.

    Labels come as feedback: POST /v2/models/MODEL/feedback with {"labels": [{"id": "ID OF AN ANSWER", "label": 3}]}.

    Args:
        model: Which model.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_fields, print_json, print_line, print_table
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    with Control(load_settings()) as control:
        found = control.quality(model)
    if json:
        print_json(found)
        return
    rows = [
        (
            f"{model}@{own['version']}",
            own["role"],
            own["slice"] or "-",
            f"{own['labelled']:,}",
            f"{own['ratio']:.2%}",
            f"{own['low']:.2%} to {own['high']:.2%}",
        )
        for own in found["accuracy"]
    ]
    if rows:
        print_table("Accuracy by labels", ("version", "role", "slice", "labelled", "right", "95 % interval"), rows)
    else:
        note(f"No label has come for {model} since the gateway began.")
    print_line(found["drift"]["why"])
    for own in found["drift"]["versions"]:
        print_line(f"{model}@{own['version']}: {own['sentence']}")
    kept, labels = found["log"], found["labels"]
    print_fields(
        "Prediction log",
        [
            ("rows", f"{kept['rows']:,}"),
            ("not written", f"{kept['failed']:,}"),
            ("not shown to the observer", f"{kept['dropped']:,}"),
            ("labels of unknown requests", f"{labels['unknown']:,}"),
            ("labels told again", f"{labels['repeated']:,}"),
            *([("problem", kept["problem"])] if kept["problem"] else []),
        ],
    )
