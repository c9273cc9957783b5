"""A Jenkins controller as this project sees it: jenkinsapi's objects, with our errors instead of its own."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from jenkinsapi.custom_exceptions import JenkinsAPIException
from jenkinsapi.jenkins import Jenkins
from jenkinsapi.job import Job
from jenkinsapi.utils.crumb_requester import CrumbRequester

from lastgood.flows.triggers.jenkins_job import JenkinsJob
from lastgood.flows.triggers.verdict import AccessRefusedError, ServerAwayError, TriggerSettingsError
from lastgood.serving.client import read_token
from lastgood.settings import Settings

T = TypeVar("T")
TOKEN_VARIABLE: Final = "JENKINS_API_TOKEN"  # noqa: S105 - its name
_ANSWER_SECONDS: Final = 20
_RETRY_SECONDS: Final = 1.0


class _Requester(CrumbRequester):
    """Every request goes through here, so every way it can fail has one sentence; none of them holds the token."""

    def get_url(self, url: str, *arguments: Any, **more: Any) -> Any:
        return self._check(url, lambda: super(_Requester, self).get_url(url, *arguments, **more))

    def post_url(self, url: str, *arguments: Any, **more: Any) -> Any:
        return self._check(url, lambda: super(_Requester, self).post_url(url, *arguments, **more))

    def _check(self, url: str, send: Callable[[], Any]) -> Any:
        try:
            response = send()
        except requests.exceptions.InvalidURL as exc:
            raise TriggerSettingsError(f"{url[:120]!r} is no address of a Jenkins: {exc}.") from None
        except requests.RequestException as exc:
            reason = getattr(exc.args[0], "reason", exc) if exc.args else exc
            raise ServerAwayError(f"Jenkins does not answer at {self._baseurl} ({type(reason).__name__}). Is the address right?") from None
        if response.status_code in {401, 403}:
            who = f"user {self.username!r}" if self.username else "an anonymous user"
            raise AccessRefusedError(
                f"Jenkins at {self._baseurl} answered {response.status_code} to {who}: check [jenkins] user, the API token in "
                f"token_file or {TOKEN_VARIABLE}, and that the user may configure and build jobs."
            )
        if response.status_code >= 500:
            raise ServerAwayError(f"Jenkins at {self._baseurl} answered {response.status_code}: it is starting, stopping or broken.")
        return response


class Controller:
    """One controller, and how long it may be away while a build is followed."""

    def __init__(self, settings: Settings, url: str | None = None, *, away_seconds: float = 120.0) -> None:
        """
        Read the address and the token; nothing is sent yet.

        Args:
            settings: The project.
            url: In place of the settings'.
            away_seconds: For how long it may not answer.

        Raises:
            TriggerSettingsError: There is no address, or a user without a token.
        """
        own = settings.jenkins
        self.url = (url or own.url or "").rstrip("/")
        try:
            parts = urlsplit(self.url)
        except ValueError as exc:
            raise TriggerSettingsError(f"{self.url[:120]!r} is no address of a Jenkins: {exc}.") from None
        if parts.password or parts.username:
            raise TriggerSettingsError("The address of Jenkins holds a user or password; they go into [jenkins] user and token_file.")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise TriggerSettingsError(f"{self.url!r} is no address of a Jenkins: set [jenkins] url in lastgood.toml, or give --url.")
        token = read_token(settings.project / own.token_file) if own.token_file else os.environ.get(TOKEN_VARIABLE, "").strip()
        if bool(own.user) != bool(token):
            raise TriggerSettingsError(
                f"Jenkins wants a user and an API token: set [jenkins] user, and token_file or {TOKEN_VARIABLE}; one of them is missing."
            )
        logging.getLogger("jenkinsapi").setLevel(logging.CRITICAL)  # its failures are told by our errors, once
        self._requester = _Requester(own.user or "", token or "", baseurl=self.url, timeout=_ANSWER_SECONDS, max_retries=None)
        self._away_seconds = away_seconds

    def put_job(self, job: JenkinsJob) -> Job:
        """
        Create the model's job, or bring the one that is there up to date; what people changed in it stays until then.

        Raises:
            TriggerSettingsError: Jenkins does not take the configuration.
        """
        jenkins = self._jenkins()
        try:
            if not jenkins.has_job(job.name):
                jenkins.create_job(job.name, job.to_xml())
            else:
                found = jenkins.get_job(job.name)
                if not job.is_in(found.get_config()):
                    answer = found.update_config(job.to_xml(), full_response=True)
                    if answer.status_code != 200:
                        raise TriggerSettingsError(f"Jenkins answered {answer.status_code} to the configuration of {job.name}.")
        except requests.HTTPError as exc:
            raise TriggerSettingsError(f"What answers at {self.url} is no Jenkins ({exc}).") from None
        except JenkinsAPIException as exc:
            # Its text holds the request with all its headers.
            raise TriggerSettingsError(
                f"Jenkins did not take the job {job.name}: {_status(exc)}. Are its Pipeline and Git plugins there?"
            ) from None
        return Job(f"{self.url}/job/{job.name}", job.name, self._jenkins())

    def ask(self, path: str, *, tree: str | None = None, patient: bool = True) -> Any:
        """
        Read one page of the API; a controller that is away for a while is waited for.

        Returns:
            What it says, None where there is no such page.
        """
        return self.patiently(lambda: self._read(path, tree), patient=patient)

    def read_log(self, build: str, start: int) -> tuple[str, int, bool]:
        """
        Read a build's console from a byte on.

        Returns:
            The text, where the next one starts, and whether there will be more.

        Source: Jenkins, "Remote Access API", progressive console output.
        """
        answer = self.patiently(lambda: self._requester.get_url(f"{build}/logText/progressiveText", params={"start": start}))
        if answer.status_code != 200:
            return "", start, False
        text = answer.content.decode("utf-8", "replace")
        return text, int(answer.headers.get("X-Text-Size", start)), "X-More-Data" in answer.headers

    def cancel(self, item: int) -> None:
        """Take a build out of the queue."""
        self._requester.post_url(f"{self.url}/queue/cancelItem", params={"id": item}, data={"id": item}, allow_redirects=False)

    def patiently(self, ask: Callable[[], T], *, patient: bool = True) -> T:
        """
        Ask until there is an answer.

        Raises:
            ServerAwayError: It was away for longer than it may.
        """
        end = time.monotonic() + self._away_seconds
        while True:
            try:
                return ask()
            except ServerAwayError as exc:
                if not patient or time.monotonic() >= end:
                    waited = f" It was waited for: {self._away_seconds:.0f} s." if patient else ""
                    raise ServerAwayError(f"{exc}{waited}") from None
                time.sleep(_RETRY_SECONDS)

    def _jenkins(self) -> Jenkins:
        return Jenkins(self.url, requester=self._requester, timeout=_ANSWER_SECONDS, lazy=True)

    def _read(self, path: str, tree: str | None) -> Any:
        answer = self._requester.get_url(f"{self.url}/{path}/api/json", params={"tree": tree} if tree else None)
        if answer.status_code == 404:
            return None
        try:
            return answer.json()
        except ValueError:
            raise ServerAwayError(f"What answers at {self.url} is no Jenkins: /{path} gave {answer.text[:60]!r}.") from None


def _status(exc: JenkinsAPIException) -> str:
    _, sign, rest = str(exc).partition("status=")
    return f"it answered {rest.partition(',')[0]}" if sign else "it did not say why"
