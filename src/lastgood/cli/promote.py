"""``lastgood promote``."""

from lastgood.cli.flags import Json, Why


def promote(model: str, /, *, why: Why, json: Json = False) -> None:
    """
    End a running rollout early: its candidate becomes live and stable.

    Args:
        model: Which model.
        why: Why; kept in the record.
        json: Write JSON.
    """
    from lastgood.cli.output import print_json, print_line
    from lastgood.cli.person import who
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    with Control(load_settings()) as control:
        state = control.promote(model, actor=who(), why=why)
    if json:
        print_json(state)
    else:
        print_line(f"{model}@{state['live']['number']} is live and stable")
