"""``lastgood unfreeze``."""

from lastgood.cli.flags import Why


def unfreeze(model: str, /, *, why: Why) -> None:
    """
    Let a model take releases again that froze after repeated withdrawals.

    Args:
        model: Which model.
        why: Why; kept in the record.
    """
    from lastgood.cli.output import print_line
    from lastgood.cli.person import who
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    with Control(load_settings()) as control:
        was = control.state(model)["frozen"]
        control.unfreeze(model, actor=who(), why=why)
    print_line(f"{model} takes releases again" if was else f"{model} was not frozen")
