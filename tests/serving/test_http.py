"""HTTP/1.1 over real sockets: order, limits, time-outs, and an end that loses nothing."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastgood.errors import ConfigurationError, ConflictError
from lastgood.serving.gateway.errors import PortTakenError
from lastgood.serving.gateway.http.router import Router
from lastgood.serving.gateway.http.server import HttpLimits, Request, Respond, Response, Server, json_response

if TYPE_CHECKING:
    from tests.serving.conftest import Tools

Run = Callable[[Callable[[], Awaitable[None]]], None]
GET = b"GET /%s HTTP/1.1\r\nhost: t\r\n\r\n"
SMALL = HttpLimits(head_bytes=512, body_bytes=1000, head_seconds=0.2, body_seconds=0.2, idle_seconds=0.2, linger_seconds=0.2)


def echo(request: Request, respond: Respond) -> None:
    """Answer with the path and the body."""
    respond(Response(200, request.path.encode() + b"|" + request.body, b"text/plain"))


class Held:
    """Holds requests until told which one to answer."""

    def __init__(self) -> None:
        self.held: dict[str, Respond] = {}

    def __call__(self, request: Request, respond: Respond) -> None:
        """Hold a request; /now is answered at once."""
        if request.path == "/now":
            echo(request, respond)
        else:
            self.held[request.path] = respond

    def release(self, path: str) -> None:
        """Answer with the path."""
        self.held.pop(path)(Response(200, path.encode()))


@asynccontextmanager
async def listen(handler: Callable[[Request, Respond], None] = echo, limits: HttpLimits | None = None) -> AsyncIterator[Server]:
    """Serve on a free port."""
    server = Server(handler, limits=limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1)


def test_pipelined_answers_keep_the_order_of_their_requests(run: Run, tools: "Tools") -> None:
    """Answers that are ready early wait for those of earlier requests."""

    async def scenario() -> None:
        held = Held()
        async with listen(held) as server, tools.connect(server.port) as client:
            client.send(b"".join(GET % name for name in (b"a", b"b", b"now", b"c")))
            await tools.wait_until(lambda: len(held.held) == 3)
            for path in ("/c", "/b", "/a"):
                held.release(path)
            assert [(await client.read()).body for _ in range(4)] == [b"/a", b"/b", b"/now|", b"/c"]

    run(scenario)


def test_more_pipelined_requests_than_the_limit_are_all_answered(run: Run, tools: "Tools") -> None:
    """Reading stops at the limit and goes on when answers left."""

    async def scenario() -> None:
        async with listen(limits=HttpLimits(pipelined=4)) as server, tools.connect(server.port) as client:
            client.send(b"".join(GET % b"%d" % number for number in range(3000)))
            assert [b"/%d|" % number for number in range(3000)] == [(await client.read()).body for number in range(3000)]

    run(scenario)


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_bodies_come_whole_however_they_are_cut(run: Run, tools: "Tools", pieces: int) -> None:
    """Chunked or with a length, in one packet or many, two on one connection."""
    message = (
        b"POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n"
        b"POST /b HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc"
    )

    async def scenario() -> None:
        async with listen() as server, tools.connect(server.port) as client:
            size = max(1, len(message) // pieces)
            for start in range(0, len(message), size):
                client.send(message[start : start + size])
                await client.writer.drain()
            assert [(await client.read()).body for _ in range(2)] == [b"/a|hello world", b"/b|abc"]

    run(scenario)


POST = b"POST /a HTTP/1.1\r\nhost: t\r\n"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc", 400),
        (POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400),
        (POST + b"content-length: -1\r\n\r\n", 400),
        (POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"content-length: 1001\r\n\r\n", 413),
        (POST + b"content-length: 99999999999999999999999\r\n\r\n", 400),
        (POST + b"transfer-encoding: chunked\r\n\r\n400\r\n" + b"x" * 1024 + b"\r\n", 413),
        (POST + b"expect: miracles\r\ncontent-length: 1\r\n\r\n", 417),
        (b"GET /" + b"x" * 600 + b" HTTP/1.1\r\nhost: t\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: t\r\nx: " + b"x" * 600 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: t\r\nx: " + b"x" * 600, 431),
        (b"GET / HTTP/1.1\r\nhost: t\r\n" + b"x: y\r\n" * 200, 431),
        (b"CONNECT t:1 HTTP/1.1\r\nhost: t\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nho", 408),
        (POST + b"content-length: 3\r\n\r\nab", 408),
    ],
)
def test_what_cannot_be_served_is_refused_and_the_connection_ends(run: Run, tools: "Tools", message: bytes, status: int) -> None:
    """The refusal comes as JSON with its status, and nothing after it is read."""

    async def scenario() -> None:
        async with listen(limits=SMALL) as server, tools.connect(server.port) as client:
            assert (await client.get("/first")).body == b"/first|"
            client.send(message)
            reply = await client.read()
            assert (status, "close") == (reply.status, reply.headers["connection"])
            assert reply.json["error"]
            client.send(GET % b"later")
            assert await client.read_to_end() == b""

    run(scenario)


def test_an_idle_connection_is_closed(run: Run, tools: "Tools") -> None:
    """After the idle time-out the server closes without a word."""

    async def scenario() -> None:
        async with listen(limits=SMALL) as server, tools.connect(server.port) as client:
            assert (await client.get("/a")).status == 200
            assert await client.read_to_end() == b""

    run(scenario)


def test_the_body_is_asked_for_when_the_client_waits(run: Run, tools: "Tools") -> None:
    """Expect: 100-continue is answered before the body, or with 413 instead of it."""

    async def scenario() -> None:
        async with listen(limits=SMALL) as server, tools.connect(server.port) as client:
            client.send(POST + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
            assert (await client.read()).status == 100
            client.send(b"abc")
            assert (await client.read()).body == b"/a|abc"
            client.send(POST + b"expect: 100-continue\r\ncontent-length: 3000\r\n\r\n")
            assert (await client.read()).status == 413

    run(scenario)


def test_an_offer_to_upgrade_is_ignored(run: Run, tools: "Tools") -> None:
    """A client that offers HTTP/2 gets its answer in HTTP/1.1, body and next request included."""

    async def scenario() -> None:
        async with listen() as server, tools.connect(server.port) as client:
            client.send(POST + b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc" + GET % b"next")
            assert [(await client.read()).body for _ in range(2)] == [b"/a|abc", b"/next|"]

    run(scenario)


def test_http_1_0_head_and_absolute_targets(run: Run, tools: "Tools") -> None:
    """HEAD has the length and no body; an absolute target is a path; HTTP/1.0 is answered and closed."""

    async def scenario() -> None:
        async with listen() as server, tools.connect(server.port) as client:
            client.send(b"HEAD /abc HTTP/1.1\r\nhost: t\r\n\r\nGET http://t/x?q=1 HTTP/1.1\r\nhost: t\r\n\r\nGET /old HTTP/1.0\r\n\r\n")
            answers = await client.read_to_end()
            head, absolute, old = answers.split(b"HTTP/1.1 200 OK\r\n")[1:]
            assert b"content-length: 5\r\n" in head
            assert head.endswith(b"\r\n\r\n")
            assert absolute.endswith(b"/x|")
            assert b"connection: close\r\n" in old

    run(scenario)


def test_stopping_finishes_what_came_in(run: Run, tools: "Tools") -> None:
    """A request in work and one half received are answered; idle connections and new ones are not kept."""

    async def scenario() -> None:
        held = Held()
        server = Server(held)
        await server.start()
        async with tools.connect(server.port) as working, tools.connect(server.port) as sending, tools.connect(server.port) as idle:
            working.send(GET % b"slow")
            sending.send(b"POST /now HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nab")
            await tools.wait_until(lambda: bool(held.held) and len(server.connections) == 3)
            assert (await idle.get("/now")).status == 200
            stopping = asyncio.create_task(server.stop(10))
            assert await idle.read_to_end() == b""
            with pytest.raises(OSError, match="onnect"):
                await asyncio.open_connection("127.0.0.1", server.port)
            sending.send(b"cd")
            held.release("/slow")
            for client, body in ((working, b"/slow"), (sending, b"/now|abcd")):
                reply = await client.read()
                assert (body, "close") == (reply.body, reply.headers["connection"])
                assert await client.read_to_end() == b""
            await stopping

    run(scenario)


async def ask_until_told(port: int, started: asyncio.Event) -> int:
    """Send one request after the other on one connection until an answer says that it is the last; give how many were answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    try:
        while True:
            writer.write(GET % b"now")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(len(b"/now|")) == b"/now|"
            answered += 1
            started.set()
            if b"connection: close" in head:
                assert await reader.read() == b""
                return answered
    finally:
        writer.close()


def test_stopping_loses_no_request_of_busy_connections(run: Run) -> None:
    """Clients that ask without a pause have every request answered, and are told which one was the last."""

    async def scenario() -> None:
        for _ in range(5):
            server = Server(echo)
            await server.start()
            started = [asyncio.Event() for _ in range(16)]
            clients = [asyncio.create_task(ask_until_told(server.port, event)) for event in started]
            await asyncio.gather(*(event.wait() for event in started))
            await server.stop(10)
            assert all(await asyncio.gather(*clients))

    run(scenario)


def test_stopping_closes_at_once_what_was_idle_for_long(run: Run, tools: "Tools") -> None:
    """Only who asked lately may ask once more; who does not is let go when that time is over."""

    async def scenario() -> None:
        limits = HttpLimits(drain_idle_seconds=0.4)
        server = Server(echo, limits=limits)
        await server.start()
        loop = asyncio.get_running_loop()
        async with tools.connect(server.port) as idle, tools.connect(server.port) as busy, tools.connect(server.port) as quiet:
            await idle.get("/now")
            (old,) = (own for own in server.connections if own._written)
            old._idle_since -= 2 * limits.drain_idle_seconds  # as if it had been longer ago
            await busy.get("/now")
            await quiet.get("/now")
            began = loop.time()
            stopping = asyncio.create_task(server.stop(10))
            assert await idle.read_to_end() == b""
            assert loop.time() - began < limits.drain_idle_seconds
            last = await busy.get("/now")
            assert (200, "close") == (last.status, last.headers["connection"])
            assert await quiet.read_to_end() == b""
            assert loop.time() - began >= limits.drain_idle_seconds
        await stopping

    run(scenario)


def test_stopping_answers_who_stands_in_line(run: Run) -> None:
    """A connection that the system took, and the server not yet, is answered too."""

    async def scenario() -> None:
        server = Server(echo)
        await server.start()
        with socket.create_connection(("127.0.0.1", server.port)) as client:  # the loop does not run meanwhile
            client.sendall(GET % b"now")
            client.setblocking(False)
            stopping = asyncio.create_task(server.stop(10))
            answer = b""
            while part := await asyncio.get_running_loop().sock_recv(client, 1000):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"/now|")
        await stopping

    run(scenario)


def test_stopping_cuts_off_after_the_grace(run: Run, tools: "Tools") -> None:
    """A request that never ends does not hold the server."""

    async def scenario() -> None:
        server = Server(Held())
        await server.start()
        async with tools.connect(server.port) as client:
            client.send(GET % b"never")
            await tools.wait_until(lambda: bool(server.handler.held))  # type: ignore[attr-defined]
            await server.stop(0.05)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.reader.readexactly(1)

    run(scenario)


def test_a_client_that_goes_is_told_to_the_handler(run: Run, tools: "Tools") -> None:
    """The hook is called for requests without an answer, and answering later harms nothing."""
    gone: list[str] = []

    async def scenario() -> None:
        held = Held()

        def handle(request: Request, respond: Respond) -> None:
            request.on_disconnect = lambda surely: gone.append(request.path) if surely else None
            held(request, respond)

        async with listen(handle) as server:
            async with tools.connect(server.port) as client:
                client.send(GET % b"a" + GET % b"now")
                await tools.wait_until(lambda: bool(held.held))
                # A closed sending side alone says nothing: the client may go on reading. A reset does.
                client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await tools.wait_until(lambda: not server.connections)
            held.release("/a")
        assert gone == ["/a"]

    run(scenario)


def test_a_taken_port_is_a_sentence_naming_its_holder(run: Run) -> None:
    """Port, holder and what to do are in the message; a foreign address is another error."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(PortTakenError, match=rf"Port {port} .*taken by .*process \d+"):
                await Server(echo, port=port).start()
        with pytest.raises(ConfigurationError, match="address of this machine"):
            await Server(echo, host="203.0.113.1").start()

    run(scenario)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.binary(max_size=80) | st.sampled_from([b"\r\n", b"GET / HTTP/1.1\r\n", b"host: t\r\n", b"content-length: 1\r\n"]), max_size=6
    )
)
def test_garbage_never_breaks_the_server(run: Run, tools: "Tools", pieces: list[bytes]) -> None:
    """Any bytes are answered with 200 or 4xx, or cut off; the next connection is served."""

    async def scenario() -> None:
        async with listen(limits=HttpLimits(linger_seconds=0.01)) as server:
            async with tools.connect(server.port) as client:
                client.send(b"".join(pieces))
                client.writer.write_eof()
                answers = await client.read_to_end()
                assert b"HTTP/1.1 5" not in answers.replace(b"HTTP/1.1 505", b"").replace(b"HTTP/1.1 501", b"")
            async with tools.connect(server.port) as client:
                assert (await client.get("/a")).body == b"/a|"

    run(scenario)


def make_router() -> Router:
    """Give a table with one of each kind."""
    router = Router(token="secret", open_paths=["/health"])

    async def wait(request: Request) -> Response:
        await asyncio.sleep(0)
        if request.params["name"] == "taken":
            raise ConflictError("Somebody was first.")
        if request.params["name"] == "bug":
            raise ZeroDivisionError
        return json_response(request.params)

    router.add("GET", "/health", lambda _: json_response({"live": True}))
    router.add("GET", "/things/{name}", wait)
    router.add("POST", "/things/{name}", wait)
    return router


@pytest.mark.parametrize(
    ("request_line", "token", "status", "text"),
    [
        ("GET /health", "", 200, "live"),
        ("GET /things/a", "", 401, "bearer token"),
        ("GET /things/a", "wrong", 401, "bearer token"),
        ("GET /things/a%2Fb", "secret", 200, '"a/b"'),
        ("GET /things/", "secret", 404, "nothing at"),
        ("GET /other", "secret", 404, "nothing at"),
        ("DELETE /things/a", "secret", 405, "expected GET, HEAD, POST"),
        ("GET /things/taken", "secret", 409, "Somebody was first."),
        ("POST /things/bug", "secret", 500, "the log has it as"),
    ],
)
def test_routes(run: Run, tools: "Tools", request_line: str, token: str, status: int, text: str) -> None:
    """Paths, methods, tokens and errors become the right status and a sentence."""

    async def scenario() -> None:
        async with listen(make_router()) as server, tools.connect(server.port) as client:
            client.send(f"{request_line} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\r\n".encode())
            reply = await client.read()
            assert status == reply.status
            assert text in reply.body.decode()

    run(scenario)
