"""``lastgood lift``."""

from lastgood.cli.flags import Why


def lift(digest: str, /, *, why: Why) -> None:
    """
    Lift a tombstone: the digest may serve again, once somebody deploys it.

    Args:
        digest: sha256:9f2c…, as much as names one.
        why: Why; kept in the record.
    """
    from lastgood.cli.output import print_line
    from lastgood.cli.person import who
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    with Control(load_settings()) as control:
        whole = control.lift(digest, actor=who(), why=why)
    print_line(f"{whole} may be deployed again")
