"""The rollback flow: the last good version serves again. The gateway does it at once; this only asks."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from lastgood.serving.client import Control
from lastgood.settings import load_settings


@flow(name="rollback", flow_run_name="rollback {model}")
def rollback(
    model: Annotated[str, Field(description="Which model")],
    why: Annotated[str, Field(min_length=1, description="Why; kept in the record")],
    to: Annotated[str | None, Field(description="The version to go back to; default: the last good one")] = None,
    keep: Annotated[bool, Field(description="Do not tombstone what is taken out")] = False,  # noqa: FBT002 - a flow's parameter
    actor: Annotated[str, Field(description="Who wants it")] = "prefect",
) -> dict[str, Any]:
    """
    Take out the candidate of a running rollout, else the live version.

    Raises:
        ConflictError: There is nothing to go back to.
        GatewayAwayError: No gateway answers.
    """
    with Control(load_settings()) as control:
        return control.rollback(model, to=to, keep=keep, actor=actor, why=why)
