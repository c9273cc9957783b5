"""What a server listens on, and what a client may do with its end: half-closed, slow, IPv6, a socket file, TLS, tokens."""

import asyncio
import socket
import ssl
import stat
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from lastgood.errors import ConfigurationError
from lastgood.serving.client import Predictor
from lastgood.serving.gateway.errors import SocketFileTakenError
from lastgood.serving.gateway.http.listening import bind_socket_file, load_tls
from lastgood.serving.gateway.http.server import HttpLimits, Request, Respond, Response, Server
from lastgood.settings import FrontSettings, Settings

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
GET = b"GET /%s HTTP/1.1\r\nhost: t\r\n\r\n"


def echo(request: Request, respond: Respond) -> None:
    """Answer with the path, a moment later."""
    asyncio.get_running_loop().call_later(0.01, respond, Response(200, request.path.encode(), b"text/plain"))


async def talk(path: Path) -> bytes:
    """Send one request over a socket file and give the last line of the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(GET % b"a")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer.rsplit(b"\r\n", 1)[-1]


def list_names(folder: Path) -> list[str]:
    """Give what lies in a folder."""
    return [own.name for own in folder.iterdir()]


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key and a certificate signed with it, for a name that the gateway is not reached by."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([*command, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_a_client_that_closes_its_sending_side_gets_its_answers(run: Run, tools: "Tools") -> None:
    """More than the limit of pipelined requests, all answered, and then the end; the last answer says so."""

    async def scenario() -> None:
        server = Server(echo, limits=HttpLimits(pipelined=4))
        await server.start()
        async with tools.connect(server.port) as client:
            client.send(b"".join(GET % b"%d" % number for number in range(50)))
            client.writer.write_eof()
            replies = [await client.read() for _ in range(50)]
            assert [b"/%d" % number for number in range(50)] == [reply.body for reply in replies]
            assert replies[-1].headers["connection"] == "close"
            assert await client.read_to_end() == b""
        async with tools.connect(server.port) as client:
            client.send(GET % b"a" + b"POST /b HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nabc")
            client.writer.write_eof()
            assert [200, 400] == [(await client.read()).status for _ in range(2)]
            assert await client.read_to_end() == b""
        await server.stop(1)

    run(scenario)


def test_http_1_0_keeps_alive_if_it_asks(run: Run, tools: "Tools") -> None:
    """The answer says so; without asking, the connection ends."""

    async def scenario() -> None:
        server = Server(echo)
        await server.start()
        async with tools.connect(server.port) as client:
            client.send(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\nExpect: 100-continue\r\n\r\n")
            assert "keep-alive" == (await client.read()).headers["connection"]
            client.send(b"GET /b HTTP/1.0\r\n\r\n")
            assert "close" == (await client.read()).headers["connection"]
            assert await client.read_to_end() == b""
        await server.stop(1)

    run(scenario)


def test_a_client_that_waits_for_the_word_gets_it_behind_earlier_answers(run: Run, tools: "Tools") -> None:
    """100 Continue comes after the answer of the request before, not in its midst, and not never."""

    async def scenario() -> None:
        server = Server(echo)
        await server.start()
        async with tools.connect(server.port) as client:
            client.send(GET % b"a" + b"POST /b HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            assert [200, 100] == [(await client.read()).status for _ in range(2)]
            client.send(b"ab")
            assert (await client.read()).body == b"/b"
        await server.stop(1)

    run(scenario)


def test_a_client_that_does_not_take_its_answer_is_cut_off(run: Run, tools: "Tools") -> None:
    """What it had asked for besides is not computed meanwhile."""
    asked: list[str] = []

    def answer_much(request: Request, respond: Respond) -> None:
        asked.append(request.path)
        respond(Response(200, bytes(16_000_000)))

    async def scenario() -> None:
        server = Server(answer_much, limits=HttpLimits(answer_seconds=0.2))
        await server.start()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(GET % b"a" * 9)
            await tools.wait_until(lambda: bool(asked))
            await tools.wait_until(lambda: not server.connections, 5)
        assert len(asked) < 9
        await server.stop(1)

    run(scenario)


def test_listening_on_ipv6(run: Run) -> None:
    """The loopback of IPv6 is an address like any other."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")

    async def scenario() -> None:
        server = Server(echo, host="::1")
        await server.start()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://[::1]:{server.port}/a")).text == "/a"
        await server.stop(1)

    run(scenario)


def test_a_socket_file_is_this_users_and_goes_with_the_server(run: Run, tmp_path: Path) -> None:
    """Mode 0600; a dead process's file is replaced, a live one's and any other file are refused with a sentence."""
    path = tmp_path / "own.sock"

    async def scenario() -> None:
        dead, _ = bind_socket_file(path)
        dead.close()
        server = Server(echo, socket_file=path)
        await server.start()
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert [path.name] == list_names(tmp_path)
        assert await talk(path) == b"/a"
        with pytest.raises(SocketFileTakenError, match=r"Another process listens .*own\.sock"):
            await Server(echo, socket_file=path).start()
        assert await talk(path) == b"/a"
        await server.stop(1)
        assert not path.exists()
        path.write_text("mine")
        with pytest.raises(SocketFileTakenError, match="no socket"):
            await Server(echo, socket_file=path).start()
        with pytest.raises(ConfigurationError, match="short path"):
            await Server(echo, socket_file=tmp_path / ("x" * 120)).start()

    run(scenario)
    assert "mine" == path.read_text()


def test_tls_files_that_do_not_fit_are_a_sentence(tmp_path: Path) -> None:
    """Not there, not PEM, and another certificate's key each have their own."""
    certificate, key = make_certificate(tmp_path, "one")
    _, other = make_certificate(tmp_path, "two")
    junk = tmp_path / "junk"
    junk.write_text("junk")
    for pair, words in {
        (tmp_path / "gone", key): "tls_certificate .*cannot be read",
        (certificate, tmp_path / "gone"): "tls_key .*cannot be read",
        (certificate, other): "not the one of the certificate",
        (junk, key): "Expected a PEM certificate",
        (certificate, junk): "Expected a PEM certificate",
    }.items():
        with pytest.raises(ConfigurationError, match=words):
            load_tls(*pair)
    assert load_tls(certificate, key).minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_client_talks_tls_to_the_gateway_it_is_set_up_with(run: Run, tools: "Tools", tmp_path: Path) -> None:
    """The certificate is trusted for itself; another one's holder is not, and plain HTTP is not spoken."""
    certificate, key = make_certificate(tmp_path, "one")
    foreign, _ = make_certificate(tmp_path, "two")

    async def scenario() -> None:
        def describe(request: Request, respond: Respond) -> None:
            respond(Response(200, b'{"name":"m"}'))

        server = Server(describe, tls=load_tls(certificate, key))
        await server.start()

        def ask(trusted: Path) -> str:
            front = FrontSettings(tls_certificate=trusted, tls_key=key)
            with Predictor(Settings(project=tmp_path, home=tmp_path, port_rest=server.port, front=front)) as predictor:
                return str(predictor.metadata("m")["name"])

        assert await asyncio.to_thread(ask, certificate) == "m"
        with pytest.raises(Exception, match="certificate verify failed"):
            await asyncio.to_thread(ask, foreign)
        async with tools.connect(server.port) as client:
            client.send(GET % b"a")
            assert b"HTTP" not in await client.read_to_end()
        await server.stop(1)

    run(scenario)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("Bearer secret", 200),
        ("bearer  secret", 200),
        ("Basic secret", 401),
        ("secret", 401),
        ("Bearer secre", 401),
        ("Bearer secrets", 401),
        ("Bearer", 401),
        ("", 401),
    ],
)
def test_tokens_on_both_paths(run: Run, tools: "Tools", versions: "Versions", value: str, status: int) -> None:
    """The path that skips the router's table asks for the same token as the table, and health for none."""

    async def scenario() -> None:
        async with tools.open_gateway(token="secret") as gateway:
            await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                header = f"authorization: {value}\r\n"
                assert status == (await client.infer([1, 2, 3], headers=header)).status
                assert status == (await client.get("/v2/models/m", header)).status
                assert 200 == (await client.get("/v2/health/live", header)).status

    run(scenario)
