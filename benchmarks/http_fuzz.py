"""
Millions of wrong and right requests against the real data plane: ``python http_fuzz.py [--inputs N] [--seconds N] [--seed S]``.

The plane runs in another process with a small model in a replica. An input is one connection: well-formed requests with ids of
their own, then perhaps a mutation of the corpus, then a sentinel, all of it cut anywhere. Whatever happens to the middle, the
first must get exactly their own answers, and the sentinel its own, or the connection must have ended with a refusal.
"""

import argparse
import json
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "serving" / "http_corpus.txt"
TOGETHER = 32  # connections
PATIENCE = 5.0  # s, for a connection to end after its client stopped sending
ALLOWED = {501, 503, 505}  # of the 5xx
PARTS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"0",
    b"-1",
    b"+5",
    b"5, 5",
    b"chunked",
    b"\r\n\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
]
PARTS += [
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: t\r\n",
]
PARTS += [
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"x" * 20_000,
    b"\xff",
    b"0\r\n\r\n",
    b";a=b",
    b"ffffffffffffffff\r\n",
    b"HEAD",
    b"OPTIONS * ",
]
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[a-z-]+: [^\r\n]*\r\n)*)\r\n")


def read_corpus() -> list[tuple[str, bytes]]:
    """Give the statuses, as they are written there, and the bytes of every entry."""
    lines = [line for line in CORPUS.read_text("ascii").splitlines() if line and not line.startswith("#")]
    entries = [line.split(" ", 1) for line in lines]
    return [(statuses, text.encode().decode("unicode_escape").encode("latin-1")) for statuses, text in entries]


@dataclass
class Case:
    """One connection's bytes and what must come of them."""

    data: bytes
    ids: list[bytes]  # of the well-formed requests at its begin; the answer of each has its id
    sentinel: bytes | None  # of the last request; None if that has no answer of its own
    refused: int | None = None  # how what stands between must be answered
    sock: socket.socket | None = None
    pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))
    answer: bytes = b""


class Maker:
    """Makes cases, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.corpus = read_corpus()
        self.refused = [(int(statuses), data) for statuses, data in self.corpus if statuses.isdigit() and statuses != "404"]
        self.count = 0
        self.name = b""

    def request(self) -> tuple[bytes, bytes]:
        """Give a well-formed request and its id."""
        rnd = self.random
        self.count += 1
        self.name = name = b"q%dz" % self.count
        extra = rnd.choice(
            [b"", b"", b"", b"accept: */*\r\n", b"x-a:\t1 \r\nX-A: 2\r\n", b"connection: keep-alive\r\n", b"x: \xe4\r\n", b"x:\r\n"]
        )
        head = b"Host: t:80\r\n" + extra
        kind = rnd.random()
        if kind < 0.4:
            target = rnd.choice([b"/v2/models/", b"/v2/models/", b"http://t/v2/models/"]) + name
            version = b"1.1" if kind < 0.36 else b"1.0\r\nconnection: keep-alive"
            return b"%sGET %s HTTP/%s\r\n%s\r\n" % (rnd.choice([b"", b"", b"\r\n"]), target, version, head), name
        if kind < 0.5:
            body = b'{"id":"%s","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}' % name
            path = b"/v2/models/m/infer"
        else:
            body = (
                rnd.randbytes(rnd.choice([0, 1, 5, 200])) if rnd.random() < 0.7 else b"GET /v2/models/smuggled HTTP/1.1\r\nhost: t\r\n\r\n"
            )
            path = b"/v2/models/%s/infer" % name
        if rnd.random() < 0.1:
            head += b"expect: 100-continue\r\n"
        if rnd.random() < 0.5:
            return b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path, head, len(body), body), name
        coded = b""
        while body:
            size = rnd.randint(1, len(body))
            coded += b"%x%s\r\n%s\r\n" % (size, rnd.choice([b"", b"", b";a", b' ; a="q;\\"r"', b";a=b;c=d"]), body[:size])
            body = body[size:]
        coded += rnd.choice([b"0", b"000"]) + b"\r\n" + rnd.choice([b"", b"", b"trailer: x\r\n"]) + b"\r\n"
        return b"POST %s HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%s" % (path, head, coded), name

    def sentinel(self) -> tuple[bytes, bytes]:
        """Give a request that no body of the corpus ends within, and its id."""
        self.count += 1
        self.name = b"q%dz" % self.count
        padding = b"x" * self.random.randint(600, 900)
        return b"GET /v2/models/%s HTTP/1.1\r\nHost: t\r\nx: %s\r\n\r\n" % (self.name, padding), self.name

    def mutate(self, data: bytes) -> bytes:
        """Give bytes with a few changes."""
        rnd = self.random
        out = bytearray(data)
        for _ in range(rnd.choice([1, 1, 1, 2, 3, 8])):
            at = rnd.randint(0, len(out))
            change = rnd.random()
            if change < 0.3:
                out[at:at] = rnd.choice(PARTS)
            elif change < 0.5:
                out[at : at + rnd.randint(1, 12)] = b""
            elif change < 0.7 and at < len(out):
                out[at] = rnd.randrange(256)
            elif change < 0.85:
                out[at : at + 2] = rnd.choice(PARTS)
            else:
                start = rnd.randint(0, len(out))
                out[at:at] = out[start : start + rnd.randint(1, 40)]
        return bytes(out)

    def case(self) -> Case:
        """Give one input."""
        rnd = self.random
        prefix = [self.request() for _ in range(rnd.choice([0, 0, 1, 1, 2, 5]))]
        kind = rnd.random()
        middle, refused = b"", None
        if kind < 0.6:
            middle = self.mutate(rnd.choice(self.corpus)[1] if rnd.random() < 0.6 else self.request()[0].replace(self.name, b"mutated"))
        elif kind < 0.7:
            refused, middle = rnd.choice(self.refused)
        elif kind < 0.75:
            middle = rnd.randbytes(rnd.randint(1, 60))
        sentinel, name = self.request() if not middle else self.sentinel()
        # An empty line may stand before a request; in the midst of a head it ends it, so that no header swallows the sentinel unseen.
        data = b"".join(own for own, _ in prefix) + middle + b"\r\n" + sentinel
        case = Case(data, [own for _, own in prefix], name, refused)
        if not middle:
            case.ids, case.sentinel = [*case.ids, name], None
        cuts = sorted(rnd.randint(0, len(data)) for _ in range(rnd.choice([0, 0, 1, 2, 6])))
        case.pieces = iter([data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b])
        return case


def split_answers(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """
    Give status, head and body of each answer but 100.

    Raises:
        ValueError: They are no answers, or one is not whole.
    """
    answers, at = [], 0
    while at < len(data):
        found = ANSWER.match(data, at)
        if found is None:
            raise ValueError(f"no answer at {data[at : at + 60]!r}")
        at = found.end()
        if found[1] == b"100":
            continue
        size = int(re.search(rb"content-length: (\d+)\r\n", found[2])[1])  # type: ignore[index]
        body = data[at : at + size]
        if not body or body.startswith(b"HTTP/1.1 "):  # HEAD has none
            body = b""
        elif len(body) < size:
            raise ValueError("the last answer is not whole")
        at += len(body)
        answers.append((int(found[1]), found[2], body))
    return answers


def judge(case: Case) -> str:
    """
    Give the outcome's name.

    Raises:
        ValueError: It is none that may be.
    """
    answers = split_answers(case.answer)
    for status, _, _ in answers:
        if status >= 500 and status not in ALLOWED:
            raise ValueError(f"status {status}")
    for name, answer in zip(case.ids, answers, strict=False):
        if name not in answer[2]:
            raise ValueError(f"{name.decode()} got the answer {answer!r}")
    if len(answers) < len(case.ids):
        raise ValueError(f"{len(case.ids)} requests were well-formed, {len(answers)} answered")
    if case.sentinel is None:
        if len(answers) != len(case.ids):
            raise ValueError(f"{len(case.ids)} requests were well-formed, {len(answers)} answers came")
        return "all well-formed, all answered"
    # Refusals quote what they refuse, ids included.
    own = [number for number, answer in enumerate(answers) if answer[0] in {200, 404} and case.sentinel in answer[2]]
    rest = answers[len(case.ids) :]
    if case.refused is not None and (own or not rest or rest[-1][0] != case.refused):
        raise ValueError(f"expected {case.refused}, got {[answer[0] for answer in rest]}")
    if own and own != [len(answers) - 1]:
        raise ValueError(f"the sentinel's answer came as {own} of {len(answers)}")
    if own:
        return f"mutated: answered {rest[0][0]}" if len(rest) > 1 else "mutated: read as nothing or as part of the sentinel"
    if not rest or (b"connection: close" not in rest[-1][1]):
        raise ValueError("the sentinel has no answer, and nothing said that the connection ends")
    return f"{'ended' if rest[-1][0] in {200, 404, 405} else 'refused'}: {rest[-1][0]}"


def play(cases: list[Case], port: int) -> None:
    """Send cases side by side and keep what comes back."""
    sending = list(cases)
    for case in cases:
        case.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        case.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while sending:
        for case in list(sending):
            piece = next(case.pieces, None)
            sock = case.sock
            if sock is None:
                continue
            try:
                if piece is not None:
                    sock.sendall(piece)
                    continue
                sock.shutdown(socket.SHUT_WR)
            except OSError:  # it was refused, and the server has gone: what it said is there to be read
                pass
            sending.remove(case)
    for case in cases:
        sock = case.sock
        if sock is not None:
            pieces = []
            while data := sock.recv(1 << 16):
                pieces.append(data)
            case.answer = b"".join(pieces)
            sock.close()


def leave(case: Case, port: int) -> None:
    """Send a case and reset the connection without reading."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(case.data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def fuzz(port: int, inputs: int, seconds: float, seed: int) -> tuple[Counter[str], list[str], int, float]:
    """Give counts by outcome, what must not be, how many inputs, and the seconds taken."""
    maker = Maker(seed)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    done, begin = 0, time.monotonic()
    while done < inputs and time.monotonic() - begin < seconds and len(wrong) < 20:
        cases = [maker.case() for _ in range(min(TOGETHER, inputs - done))]
        try:
            play(cases, port)
        except OSError as exc:
            wrong.append(f"{exc!r} among {[case.data for case in cases if not case.answer]!r:.2000}")
            continue
        for case in cases:
            try:
                counts[judge(case)] += 1
            except ValueError as exc:
                wrong.append(f"{exc}\n  sent {case.data!r:.1500}\n  got  {case.answer!r:.1500}")
        done += len(cases)
        if maker.random.random() < 0.2:
            leave(maker.case(), port)
            counts["left without reading"] += 1
            done += 1
    return counts, wrong, done, time.monotonic() - begin


def main() -> int:
    """Fuzz and print a table; exit code 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        server = Path(__file__).with_name("fuzzed_plane.py")
        with subprocess.Popen([sys.executable, str(server), folder], stdout=subprocess.PIPE, stderr=log) as process:
            try:
                port = json.loads(process.stdout.readline())["port"]  # type: ignore[union-attr]
                counts, wrong, done, took = fuzz(port, arguments.inputs, arguments.seconds, arguments.seed)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)
        log.seek(0)
        text = log.read()
    if process.returncode != 0 or "Traceback" in text or "failed (" in text:
        wrong.append(f"the server ended with {process.returncode}; its log: {text[-3000:]}")
    for outcome, count in counts.most_common():
        print(f"{count:>10,}  {outcome}")
    print(f"{done:>10,}  inputs in {took:.1f} s, {done / took:,.0f}/s, seed {arguments.seed}; {len(wrong)} wrong")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
