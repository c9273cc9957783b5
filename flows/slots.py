"""One release per model at a time, where many may be started: by schedules, triggers, and hands on the Prefect pages."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.runtime import deployment


@contextmanager
def hold_model(model: str) -> Iterator[None]:
    """
    Wait until no other run of a deployment releases the model, and keep others waiting meanwhile.

    A person at a terminal does not queue: their release is told at once that another one runs. A worker that dies gives
    its slot back when its lease ends.
    """
    if deployment.id is None:
        yield
        return
    name = f"lastgood-release-{model}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, 1)
    get_run_logger().info("waiting for the slot %s", name)
    with concurrency(name, occupy=1, strict=True):
        yield
