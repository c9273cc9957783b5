"""W3C trace context: what is valid, what is as if it had not been sent, and that heads without it are the same heads."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lastgood.serving.gateway.http.framing import Refusal
from lastgood.serving.gateway.http.messages import Request
from lastgood.serving.gateway.http.reading import Heads, RequestReader
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.telemetry.context import Trace, begin_trace, cut_traceparent, describe, read_traceparent, read_tracestate

TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
GOOD = b"00-%s-%s-01" % (TRACE, PARENT)


def read(data: bytes, heads: Heads | None = None) -> Request:
    """Read one request that came at once."""
    reader = RequestReader(HttpLimits(), lambda: 0.0, heads)
    reader.push(data)
    request = reader.read()
    assert request is not None
    return request


def head_with(lines: bytes) -> bytes:
    return b"GET /v2 HTTP/1.1\r\nhost: t\r\n" + lines + b"accept: */*\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (GOOD, GOOD),
        (GOOD[:-2] + b"00", GOOD[:-2] + b"00"),
        (GOOD[:-2] + b"03", GOOD[:-2] + b"03"),
        # Flags that are not known are not handed on.
        (GOOD[:-2] + b"ff", GOOD[:-2] + b"03"),
        (GOOD[:-2] + b"08", GOOD[:-2] + b"00"),
        # Later versions: read as far as they must be like this one.
        (b"01" + GOOD[2:], GOOD),
        (b"cc" + GOOD[2:] + b"-what-the-future-will-be-like", GOOD),
        (b"fe" + GOOD[2:] + b"-", GOOD),
        (b"cc" + GOOD[2:] + b".what", None),
        (b"cc" + GOOD[2:] + b"0", None),
        # Version 00 has no more than this, and ff is none.
        (GOOD + b"-", None),
        (GOOD + b"-what", None),
        (b"ff" + GOOD[2:], None),
        (GOOD[:-1], None),
        (GOOD[1:], None),
        (b"", None),
        (b"00-" + b"0" * 32 + GOOD[35:], None),
        (GOOD[:36] + b"0" * 16 + b"-01", None),
        (GOOD.upper(), None),
        (b"0x" + GOOD[2:], None),
        (GOOD.replace(b"-", b"_"), None),
        (GOOD[:-2] + b".0", None),
        (GOOD + b"\n", None),
        (GOOD + b", " + GOOD, None),
        (b"01" + GOOD[2:] + b", " + GOOD, None),
    ],
)
def test_a_traceparent_is_valid_as_the_recommendation_says(header: bytes, expected: bytes | None) -> None:
    """Strictly in version 00; what is valid comes out in the form of version 00."""
    assert expected == read_traceparent(header)


@given(st.binary(max_size=80) | st.text("0123456789abcdef-", min_size=50, max_size=60).map(str.encode))
@example(GOOD)
def test_whatever_is_read_reads_the_same_again(header: bytes) -> None:
    """A projection; and nothing raises."""
    found = read_traceparent(header)
    assert found is None or (found == read_traceparent(found) and len(found) == 55)


def test_an_answer_names_the_gateways_own_span_in_the_same_trace() -> None:
    """Same trace and flags, another span for each request."""
    first, second = Trace(GOOD), Trace(GOOD)
    assert (TRACE, PARENT, 1, True) == (first.trace_id, first.parent_id, first.flags, first.sampled)
    assert b"traceparent: 00-%s-%s-01\r\n" % (TRACE, first.span_id) == first.to_line()
    assert len({first.span_id, second.span_id, PARENT}) == 3
    assert not Trace(GOOD[:-2] + b"02").sampled
    assert {"trace_id": TRACE.decode()} == describe(first)
    assert {} == describe(None)


def test_a_trace_that_begins_here_is_valid_sampled_and_nobodys_child() -> None:
    """And no two are the same."""
    first, second = begin_trace(), begin_trace()
    line = first.to_line().removeprefix(b"traceparent: ").removesuffix(b"\r\n")
    assert line == read_traceparent(line)
    assert (None, True) == (first.parent_id, first.sampled)
    assert first.trace_id != second.trace_id


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (b" a=1 , ,\tb@c=2 \t", b"a=1,b@c=2"),
        (b"1a@b=x y", b"1a@b=x y"),
        (b"", b""),
        (b"1a=x", b""),
        (b"A=x", b""),
        (b"a=", b""),
        (b"a= ", b""),
        (b"a=b=c", b""),
        (b"a=1,a=2", b""),
        (b"a=\x07", b""),
        (b"a=" + b"x" * 256, b"a=" + b"x" * 256),
        (b"a=" + b"x" * 257, b""),
        (b",".join(b"k%d=v" % own for own in range(32)), b",".join(b"k%d=v" % own for own in range(32))),
        (b",".join(b"k%d=v" % own for own in range(33)), b""),
    ],
)
def test_a_tracestate_is_taken_whole_or_not_at_all(header: bytes, expected: bytes) -> None:
    """Keys and values as the recommendation has them, each key once, 32 at most."""
    assert expected == read_tracestate(header)


@pytest.mark.parametrize("name", [b"traceparent: ", b"Traceparent: ", b"TraceParent:", b"TRACEPARENT: \t"])
def test_requests_of_many_traces_share_one_checked_head(name: bytes) -> None:
    """Where the line is as clients write it; otherwise it is read all the same, and the head is not kept."""
    heads = Heads()
    plain = read(head_with(b""), heads)
    first = read(head_with(name + GOOD + b"\r\n"), heads)
    second = read(head_with(name + GOOD.replace(b"b7-", b"b8-") + b"\r\n"), heads)
    assert plain.trace is None
    assert first.trace is not None
    assert second.trace is not None
    assert (PARENT, PARENT[:-1] + b"8", TRACE, TRACE) == (
        first.trace.parent_id,
        second.trace.parent_id,
        first.trace.trace_id,
        second.trace.trace_id,
    )
    plainly_written = name in {b"traceparent: ", b"Traceparent: "}
    assert plainly_written == (first.head is second.head is plain.head)
    assert read(head_with(b""), heads).trace is None


@pytest.mark.parametrize(
    "lines",
    [
        b"traceparent: " + GOOD + b"\r\ntraceparent: " + GOOD + b"\r\n",
        b"traceparent: " + GOOD + b"\r\nTRACEPARENT: " + GOOD + b"\r\n",
        b"TRACEPARENT: " + GOOD + b"\r\ntraceparent: " + GOOD + b"\r\n",
        b"traceparent: nonsense\r\ntraceparent: " + GOOD + b"\r\n",
        b"traceparent: nonsense\r\n",
        b"x-traceparent: " + GOOD + b"\r\n",
        b"tracestate: a=1\r\n",
    ],
)
def test_two_traces_are_none_and_so_is_nonsense(lines: bytes) -> None:
    """However often it comes: what was kept of heads does not change that. The request itself is a good one."""
    heads = Heads()
    for _ in range(3):
        request = read(head_with(lines), heads)
        assert request.trace is None
        assert b"*/*" == request.headers[b"accept"]


@given(
    st.lists(
        st.sampled_from(
            [
                b"traceparent: " + GOOD,
                b"Traceparent: " + GOOD,
                b"traceparent: " + GOOD + b"-",
                b"traceparent:" + GOOD,
                b"accept: */*",
                b" folded",
                b"\ttraceparent: " + GOOD,
                b"bare\n",
                b"x: \r",
                b"x : y",
                b"",
                b"connection: close",
                b"content-length: 0",
                b"transfer-encoding: chunked",
            ]
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_a_head_is_valid_exactly_if_it_is_without_its_trace(lines: list[bytes], known: bool) -> None:  # noqa: FBT001
    """What is refused with the line is refused without, and the other way round; what is read is the same but for the trace."""
    data = b"GET /v2 HTTP/1.1\r\nhost: t\r\n" + b"".join(own + b"\r\n" for own in lines) + b"\r\n"
    whole = data[: data.index(b"\r\n\r\n") + 4]
    rest, _ = cut_traceparent(whole)
    heads = Heads()

    def judge(head: bytes, kept: Heads) -> Any:
        reader = RequestReader(HttpLimits(), lambda: 0.0, kept)
        try:
            found = reader._read_head(b"GET", b"/v2", b"1.1", head)
        except Refusal as exc:
            return exc.status
        return {name: value for name, value in found.headers.items() if name != b"traceparent"}, found.length, found.keep_alive

    if known and isinstance(judge(rest, heads), tuple):
        reader = RequestReader(HttpLimits(), lambda: 0.0, heads)
        reader.push(rest)
        reader.read()
    assert judge(whole, Heads()) == judge(rest, Heads())
    reader = RequestReader(HttpLimits(), lambda: 0.0, heads)
    reader.push(whole)
    expected = judge(whole, Heads())
    if isinstance(expected, int):
        with pytest.raises(Refusal) as caught:
            reader.read()
        assert expected == caught.value.status
    else:
        reader.read()
        count = sum(name.lower().strip() == b"traceparent" for name in (own.split(b":")[0] for own in whole.split(b"\r\n")))
        if count > 1 and reader.phase.name == "IDLE" and expected[2]:  # else nothing is read any more
            reader.push(whole)
            again = reader.read()
            assert again is not None
            assert again.trace is None


def test_a_trace_survives_a_body_that_comes_later() -> None:
    """Head and body in two pieces."""
    reader = RequestReader(HttpLimits(), lambda: 0.0)
    reader.push(b"POST / HTTP/1.1\r\nhost: t\r\ntraceparent: " + GOOD + b"\r\ncontent-length: 4\r\n\r\nab")
    assert reader.read() is None
    reader.push(b"cd")
    request = reader.read()
    assert request is not None
    assert request.trace is not None
    assert (b"abcd", TRACE) == (request.body, request.trace.trace_id)


def test_a_head_is_as_long_with_its_trace_as_it_is() -> None:
    """The limit is for what was sent, also where the rest is known."""
    heads, limits = Heads(), HttpLimits(head_bytes=100)
    line = b"traceparent: " + GOOD + b"\r\n"
    assert len(head_with(b"")) <= 100 < len(head_with(line))
    assert read(head_with(b""), heads).trace is None
    reader = RequestReader(limits, lambda: 0.0, heads)
    reader.push(head_with(line))
    with pytest.raises(Refusal) as caught:
        reader.read()
    assert 431 == caught.value.status
