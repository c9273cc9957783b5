"""Starting the deployment ``release/release`` on a Prefect server and following its run to its end."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from lastgood.errors import LastgoodError, NotFoundError, TimedOutError
from lastgood.flows.triggers.verdict import INTERRUPTED, NO_ANSWER, AccessRefusedError, NotStartedError, ServerAwayError, Verdict

DEPLOYMENT: Final = "release/release"
_POLL_SECONDS: Final = 0.5
_AWAY_SECONDS: Final = 120.0
# How Prefect's engine words the state of a flow that raised: the class's name, then what it says.
_RAISED: Final = re.compile(r"exception:\s*(?:[\w.]+\.)?(\w+)(?::\s*(.*))?", re.DOTALL)
_WAITING: Final = {"SCHEDULED", "PENDING"}


def release(parameters: Mapping[str, Any], *, api_url: str, pages: str, seconds: float, echo: Callable[[str], None]) -> Verdict:
    """
    Start a run of the release deployment, follow it, and say how it ended.

    Args:
        parameters: Of the flow ``release``.
        api_url: Prefect's API, for messages; the client reads PREFECT_API_URL itself.
        pages: Where a person reads.
        seconds: For how long at most.
        echo: Is told each change of the run's state.

    Raises:
        NotFoundError: The server has no such deployment.
        NotStartedError: No worker took the run; it is cancelled.
        ServerAwayError: The server does not answer, or not any more.
        TimedOutError: The run goes on; it is left alone.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.states import Cancelled

    end = time.monotonic() + seconds
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
            run = client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters))
            url, told = f"{pages}/runs/flow-run/{run.id}", ""
            while time.monotonic() < end:
                state = _patiently(lambda: client.read_flow_run(run.id).state, api_url)
                if state.name != told:
                    echo(f"{run.name}: {state.name}")
                    told = state.name
                if state.is_final():
                    return judge(state.type.value, state.message or "", url)
                time.sleep(_POLL_SECONDS)
            if state.type.value in _WAITING:
                client.set_flow_run_state(run.id, Cancelled(message="Nobody took it in time."), force=True)
                raise NotStartedError(
                    f"No worker took {url} within {seconds:.0f} s; it is cancelled. Start one: prefect worker start --pool lastgood."
                )
    except ObjectNotFound:
        raise NotFoundError(f"Prefect at {api_url} has no deployment {DEPLOYMENT}: register it with `prefect deploy --all`.") from None
    except PrefectHTTPStatusError as exc:
        if exc.response.status_code in {401, 403}:
            raise AccessRefusedError(f"Prefect at {api_url} answered {exc.response.status_code}: check PREFECT_API_KEY.") from None
        raise ServerAwayError(f"Prefect at {api_url} answered {exc.response.status_code}.") from None
    except (httpx.TransportError, RuntimeError) as exc:
        if isinstance(exc, RuntimeError) and "reach" not in str(exc):
            raise  # Prefect's client words some of its connection failures as this
        raise ServerAwayError(
            f"Prefect does not answer at {api_url}. Start it with `lastgood up prefect`, or set PREFECT_API_URL."
        ) from None
    raise TimedOutError(f"{url} still runs after {seconds:.0f} s. It goes on; look there.")


def judge(kind: str, message: str, url: str) -> Verdict:
    """
    Give a run's final state as an exit code of ours.

    Args:
        kind: Prefect's state type.
        message: The state's; for a flow that raised, the error's class and text.
        url: The run's page.
    """
    if kind == "COMPLETED":
        return Verdict("prefect", kind, 0, url, "The run completed.")
    if kind == "CANCELLED":
        return Verdict("prefect", kind, INTERRUPTED, url, f"The run was cancelled. See {url}.")
    raised = _RAISED.search(message)
    code = find_exit_codes().get(raised[1]) if raised and kind == "FAILED" else None
    said = (raised[2] or raised[1]) if raised and code is not None else message or "it did not say why"
    return Verdict("prefect", kind, NO_ANSWER if code is None else code, url, f"The run {kind.lower()}: {said.strip()} See {url}.")


def find_exit_codes() -> dict[str, int]:
    """Give the exit code of each of our errors by its class's name, which is all that a run's state keeps of it."""
    import lastgood.flows.release  # noqa: F401 - and with it everything that a release can raise

    def below(kind: type[LastgoodError]) -> list[type[LastgoodError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    return {kind.__name__: kind.exit_code for kind in below(LastgoodError)}


def _patiently(ask: Callable[[], Any], api_url: str) -> Any:
    end = time.monotonic() + _AWAY_SECONDS
    while True:
        try:
            return ask()
        except httpx.TransportError:
            if time.monotonic() >= end:
                raise ServerAwayError(f"Prefect at {api_url} went away and did not come back within {_AWAY_SECONDS:.0f} s.") from None
            time.sleep(_POLL_SECONDS)
