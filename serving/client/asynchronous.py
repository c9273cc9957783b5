"""Asks a gateway's data plane for answers, from an event loop."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from lastgood.serving.client import calls
from lastgood.serving.client.access import CONNECTIONS, IDLE_SECONDS, check_count, check_open, make_headers
from lastgood.serving.client.answer import Answer, Array
from lastgood.serving.client.asking import Asking
from lastgood.serving.client.errors import AnswerBrokenOffError
from lastgood.serving.client.retries import ONCE, RETRIES, RetryPolicy, Tries
from lastgood.serving.trust import trust
from lastgood.settings import Settings


class AsyncPredictor(Asking):
    """Asks for answers as `Predictor` does, with the same words; belongs to one event loop, and many requests may be under way at once."""

    def __init__(
        self,
        settings: Settings,
        *,
        traffic: str | None = None,
        seconds: float = 30.0,
        retries: RetryPolicy = RETRIES,
        connections: int = CONNECTIONS,
    ) -> None:
        """Remember what `Predictor` does; nothing is sent yet."""
        super().__init__(settings, seconds, retries)
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers=make_headers(settings, traffic),
            verify=trust(settings),
            limits=httpx.Limits(
                max_connections=check_count(connections), max_keepalive_connections=connections, keepalive_expiry=IDLE_SECONDS
            ),
            trust_env=False,  # as the other client: a gateway is not behind the proxy of somebody's browser
        )
        self._slots = asyncio.Semaphore(connections)  # httpx's own queue takes time with the square of those who wait

    async def __aenter__(self) -> Self:
        """Give the client; leaving closes its connections."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def metadata(self, model: str, *, version: int | None = None, seconds: float | None = None) -> dict[str, Any]:
        """Give what the model takes and gives."""
        tries = self._begin(seconds)
        return calls.read_object(await self._talk(calls.describe(model, version), tries), tries)

    async def predict(
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
        """Ask for an answer; arguments and errors are those of `Predictor.predict`."""
        tries = self._begin(seconds)
        if binary is None:
            binary = await self._takes_binary(tries.until)
        call = calls.predict(model, inputs, binary=binary, version=version, outputs=outputs, request_id=request_id, part=part)
        return calls.read_answer(await self._talk(call, tries), tries)

    async def ask(
        self, model: str, request: Mapping[str, Any], *, version: int | None = None, part: str | None = None, seconds: float | None = None
    ) -> Answer:
        """Ask for an answer with a whole request of the protocol, sent as JSON just as it is."""
        tries = self._begin(seconds)
        return calls.read_answer(await self._talk(calls.infer(model, request, version, part), tries), tries)

    async def infer(self, model: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Ask for one answer in JSON, once."""
        tries = self._begin(None, ONCE)
        return calls.read_object(await self._talk(calls.infer(model, {"inputs": inputs}, None, None), tries), tries)

    async def send(self, model: str, inputs: list[dict[str, Any]], *, part: str | None = None) -> httpx.Response:
        """Ask for one answer in JSON, once, and give the whole response, whatever its status."""
        return await self._talk(calls.infer(model, {"inputs": inputs}, None, part), self._begin(None, ONCE))

    async def feed_back(self, model: str, labels: Mapping[str, int]) -> int:
        """Say what earlier answers should have been; give how many labels were taken."""
        tries = self._begin(None, ONCE)
        return int(calls.read_object(await self._talk(calls.feed_back(model, labels), tries), tries)["accepted"])

    async def _takes_binary(self, until: float) -> bool:
        if self._binary is None:
            tries = Tries(self._policy, self._budget, until)
            self._binary = calls.names_binary(calls.read_object(await self._talk(calls.EXTENSIONS, tries), tries))
        return self._binary

    async def _talk(self, call: calls.Call, tries: Tries) -> httpx.Response:
        while True:
            try:
                response = await self._try(call, tries)
            except httpx.TransportError as exc:
                wait = tries.wait_after(exc)
                if wait is None:
                    raise tries.give_up(self._url, exc) from exc
            else:
                wait = tries.wait_after(response)
                if wait is None:
                    return response
            await asyncio.sleep(wait)

    async def _try(self, call: calls.Call, tries: Tries) -> httpx.Response:
        check_open(self._http)
        request = self._http.build_request(call.method, call.path, content=call.content, headers=call.headers, timeout=None)
        try:
            async with asyncio.timeout(tries.remaining()), self._slots:
                response = await self._http.send(request, stream=True)
                try:
                    await response.aread()
                except httpx.TransportError as exc:
                    raise AnswerBrokenOffError(f"The answer from {self._url} broke off ({exc!r}); it is not asked for twice.") from exc
                finally:
                    await response.aclose()
                return response
        except TimeoutError as exc:
            raise tries.expire() from exc
