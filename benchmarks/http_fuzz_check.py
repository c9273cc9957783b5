"""What must come back: each request its own answer, in order, or a refusal with which the connection ends."""

import re

from http_fuzz_inputs import Case

ALLOWED = {501, 503, 505}  # of the 5xx
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[a-z-]+: [^\r\n]*\r\n)*)\r\n")


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
