"""Asks a gateway's data plane for answers."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from lastgood.serving.client import calls
from lastgood.serving.client.access import CONNECTIONS, IDLE_SECONDS, check_count, check_open, make_headers
from lastgood.serving.client.answer import Answer, Array
from lastgood.serving.client.asking import Asking
from lastgood.serving.client.retries import ONCE, RETRIES, RetryPolicy, Tries
from lastgood.serving.client.timed import TimedTransport
from lastgood.serving.trust import trust
from lastgood.settings import Settings


class Predictor(Asking):
    """
    Asks for answers, over connections that are kept open; may be shared by threads.

    The time for an answer holds for all attempts and waits together.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        traffic: str | None = None,
        seconds: float = 30.0,
        retries: RetryPolicy = RETRIES,
        connections: int = CONNECTIONS,
    ) -> None:
        """
        Remember the address, the token and whom to trust; nothing is sent yet.

        Args:
            settings: Where the gateway is.
            traffic: A label that sets these requests apart in the metrics, such as ``evaluation``.
            seconds: How long an answer may take where a call does not say.
            retries: When `predict`, `ask` and `metadata` try again; the other words never do.
            connections: At most; further requests wait for one, within their time.
        """
        super().__init__(settings, seconds, retries)
        self._http = httpx.Client(
            base_url=self._url,
            headers=make_headers(settings, traffic),
            transport=TimedTransport(verify=trust(settings), connections=check_count(connections), idle_seconds=IDLE_SECONDS),
        )

    def __enter__(self) -> Self:
        """Give the client; leaving closes its connections."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()

    def metadata(self, model: str, *, version: int | None = None, seconds: float | None = None) -> dict[str, Any]:
        """Give what the model takes and gives."""
        tries = self._begin(seconds)
        return calls.read_object(self._talk(calls.describe(model, version), tries), tries)

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: int | None = None,
        outputs: Sequence[str] | None = None,
        binary: bool | None = None,
        request_id: str | None = None,
        part: str | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """
        Ask for an answer.

        Args:
            model: Its name.
            inputs: Arrays by name, of the model's own types: float32 for FP32, texts for BYTES.
            version: Ask this one, outside of any rollout; default: the one that the route deals.
            outputs: Names of those wanted; default: all.
            binary: Whether tensors go and come in binary form; default: if the server says that it takes them.
            request_id: To tell labels under; default: the gateway makes one.
            part: The slice of the traffic that the request is of.
            seconds: How long it may take, attempts and waits included.

        Raises:
            UsageError: The inputs are wrong; says which and how.
            NotFoundError: There is no such model or version.
            DeadlineError: It did not come in time.
            UnavailableError: The gateway is away or refuses for load, also after further attempts.
            ModelFailedError: The model failed on these inputs.
        """
        tries = self._begin(seconds)
        if binary is None:
            binary = self._takes_binary(tries.until)
        call = calls.predict(model, inputs, binary=binary, version=version, outputs=outputs, request_id=request_id, part=part)
        return calls.read_answer(self._talk(call, tries), tries)

    def ask(
        self, model: str, request: Mapping[str, Any], *, version: int | None = None, part: str | None = None, seconds: float | None = None
    ) -> Answer:
        """Ask for an answer with a whole request of the protocol, sent as JSON just as it is; else like `predict`."""
        tries = self._begin(seconds)
        return calls.read_answer(self._talk(calls.infer(model, request, version, part), tries), tries)

    def infer(self, model: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Ask for one answer in JSON, once.

        Args:
            model: Its name.
            inputs: Open Inference Protocol tensors: name, datatype, shape, data.

        Raises:
            UsageError: The gateway says what is wrong with the inputs.
            UnavailableError: It is away, refuses for load, or the answer did not come in time.
        """
        tries = self._begin(None, ONCE)
        return calls.read_object(self._talk(calls.infer(model, {"inputs": inputs}, None, None), tries), tries)

    def send(self, model: str, inputs: list[dict[str, Any]], *, part: str | None = None) -> httpx.Response:
        """Ask for one answer in JSON, once, and give the whole response, whatever its status."""
        return self._talk(calls.infer(model, {"inputs": inputs}, None, part), self._begin(None, ONCE))

    def feed_back(self, model: str, labels: Mapping[str, int]) -> int:
        """
        Say what earlier answers should have been; give how many labels were taken.

        Args:
            model: Its name.
            labels: Classes by the ``id`` of the answers, however late and in any order.

        Raises:
            UsageError: The gateway says what is wrong with them.
            UnavailableError: It is away, or cannot take labels now.
        """
        tries = self._begin(None, ONCE)
        return int(calls.read_object(self._talk(calls.feed_back(model, labels), tries), tries)["accepted"])

    def _takes_binary(self, until: float) -> bool:
        if self._binary is None:
            tries = Tries(self._policy, self._budget, until)
            self._binary = calls.names_binary(calls.read_object(self._talk(calls.EXTENSIONS, tries), tries))
        return self._binary

    def _talk(self, call: calls.Call, tries: Tries) -> httpx.Response:
        """Give the answer of the last attempt, whatever its status."""
        while True:
            try:
                response = self._try(call, tries)
            except httpx.TransportError as exc:
                wait = tries.wait_after(exc)
                if wait is None:
                    raise tries.give_up(self._url, exc) from exc
            else:
                wait = tries.wait_after(response)
                if wait is None:
                    return response
            time.sleep(wait)

    def _try(self, call: calls.Call, tries: Tries) -> httpx.Response:
        check_open(self._http)
        tries.remaining()
        more = {"until": tries.until}
        return self._http.send(
            self._http.build_request(call.method, call.path, content=call.content, headers=call.headers, extensions=more)
        )
