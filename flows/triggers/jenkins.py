"""Starting a model's build on Jenkins and following it to its end."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from jenkinsapi.custom_exceptions import JenkinsAPIException

from lastgood.errors import RefusedError, TimedOutError
from lastgood.flows.triggers.controller import Controller
from lastgood.flows.triggers.jenkins_job import JenkinsJob
from lastgood.flows.triggers.verdict import (
    INTERRUPTED,
    NO_ANSWER,
    OWN_CODES,
    NotStartedError,
    ServerAwayError,
    TriggerSettingsError,
    Verdict,
)

_POLL_SECONDS: Final = 0.5
# What the sh step's failure is called at the end of a console; the last one is the build's.
_EXIT_CODE: Final = re.compile(r"^ERROR: script returned exit code (\d+)$", re.MULTILINE)
_TAIL: Final = 64 << 10  # bytes of console that are kept to find it


def release(
    controller: Controller, job: JenkinsJob, parameters: Mapping[str, str], *, seconds: float, echo: Callable[[str], None]
) -> Verdict:
    """
    Start a build, follow its queue and its console, and say how it ended.

    A controller that goes away meanwhile is waited for: builds go on when it comes back.

    Args:
        controller: Where.
        job: Created or brought up to date first.
        parameters: The build's, by name.
        seconds: For how long at most.
        echo: Is given each line of the console.

    Raises:
        AccessRefusedError: The user may not do this.
        NotStartedError: The build did not leave the queue; it is taken out of it.
        ServerAwayError: The controller did not come back.
        TimedOutError: The build still runs; it is left alone.
    """
    end = time.monotonic() + seconds
    found = controller.put_job(job)
    try:
        item = found.invoke(build_params=dict(parameters))
    except ServerAwayError as exc:
        raise ServerAwayError(f"{exc} Whether the build was started is not known: look at {controller.url}/job/{job.name}.") from None
    except JenkinsAPIException:
        raise TriggerSettingsError(
            f"Jenkins did not take the parameters of {job.name}; does its Jenkinsfile have others? See {controller.url}/job/{job.name}."
        ) from None
    except ValueError:
        raise ServerAwayError(
            f"The build was started, but Jenkins names itself otherwise than {controller.url}: use the address of Manage Jenkins, System."
        ) from None
    number = _await_start(controller, job, int(item.baseurl.rstrip("/").rpartition("/")[2]), end, seconds)
    if number is None:
        return Verdict("jenkins", "CANCELLED", INTERRUPTED, f"{controller.url}/job/{job.name}", "The build was cancelled in the queue.")
    return _follow(controller, job, number, end, seconds, echo)


def _await_start(controller: Controller, job: JenkinsJob, item: int, end: float, seconds: float) -> int | None:
    """Give the number of the build that a place in the queue became; None where it was cancelled."""
    why = ""
    while time.monotonic() < end:
        state = controller.ask(f"queue/item/{item}")
        if state is None:
            # Jenkins forgets what left the queue after five minutes; builds remember where they come from.
            state = {"executable": _find_build(controller, job, item)}
        if state.get("cancelled"):
            return None
        if state.get("executable"):
            return int(state["executable"]["number"])
        why = str(state.get("why") or why)
        time.sleep(_POLL_SECONDS)
    controller.cancel(item)
    raise NotStartedError(
        f"The build of {job.name} waited for {seconds:.0f} s and did not start ({why or 'Jenkins did not say why'}); it is taken out of "
        f"the queue. Agents need the label lastgood: {controller.url}/computer/."
    )


def _find_build(controller: Controller, job: JenkinsJob, item: int) -> Any:
    builds = (controller.ask(f"job/{job.name}", tree="builds[number,queueId]") or {}).get("builds", [])
    return next((build for build in builds if build.get("queueId") == item), None)


def _follow(controller: Controller, job: JenkinsJob, number: int, end: float, seconds: float, echo: Callable[[str], None]) -> Verdict:
    url = f"{controller.url}/job/{job.name}/{number}"
    start, tail, rest, more = 0, "", "", True
    while True:
        text, start, more = controller.read_log(url, start)
        tail = (tail + text)[-_TAIL:]
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            echo(line)
        state = None if more else controller.ask(f"job/{job.name}/{number}", tree="building,result")
        if state is not None and not state["building"] and state["result"]:
            if rest:
                echo(rest)
            return judge(str(state["result"]), tail, url)
        if time.monotonic() >= end:
            raise TimedOutError(f"{url} still runs after {seconds:.0f} s. It goes on; look there.")
        time.sleep(_POLL_SECONDS)


def judge(result: str, console: str, url: str) -> Verdict:
    """
    Give a build's result as an exit code of ours.

    Args:
        result: Jenkins' word.
        console: The end of the console, with the exit code of the script that failed, where one did.
        url: The build's.

    Source: Jenkins, "Pipeline: Nodes and Processes", sh: a status other than zero fails the step with that message.
    """
    codes = [int(code) for code in _EXIT_CODE.findall(console)]
    said = codes[-1] if codes and codes[-1] in OWN_CODES else None
    match result:
        case "SUCCESS":
            code, sentence = 0, "The build succeeded."
        case "UNSTABLE":
            code, sentence = said or RefusedError.exit_code, "The build is unstable: a test of the gate failed."
        case "ABORTED":
            code, sentence = INTERRUPTED, "The build was aborted."
        case "FAILURE" if said is not None:
            code, sentence = said, f"The build failed with lastgood's exit code {said}."
        case _:
            code, sentence = (
                NO_ANSWER,
                f"The build ended as {result} and lastgood said nothing: an agent, a checkout or `make setup` failed.",
            )
    return Verdict("jenkins", result, code, url, f"{sentence} See {url}.")
