"""What is sent: well-formed requests with ids of their own, mutations of the corpus, sentinels, cut anywhere."""

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "serving" / "http_corpus.txt"
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
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: t\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"x" * 20_000,
    b"\xff",
    b"0\r\n\r\n",
    b";a=b",
    b"ffffffffffffffff\r\n",
    b"HEAD",
    b"OPTIONS * ",
]


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
