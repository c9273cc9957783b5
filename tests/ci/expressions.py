"""
GitHub's ``${{ expressions }}``, as far as our workflows use them.

Literals ('text', numbers, true, false, null), contexts (``a.b.c``, missing ones are null), ``!``, ``==``, ``!=``, ``&&``, ``||``,
parentheses, and the functions given. ``&&`` and ``||`` give one of their operands. Anything else is an error.

Source: GitHub Actions, "Evaluate expressions in workflows and actions".
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<word>[A-Za-z_][\w-]*)|(?P<number>\d+)|(?P<sign>&&|\|\||==|!=|[!().,]))")
_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


class Expression:
    """One expression, read from left to right."""

    def __init__(self, text: str, contexts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> None:
        self.contexts = contexts
        self.functions: dict[str, Callable[..., Any]] = {"format": _format, "fromJSON": json.loads, **functions}
        self.called: set[str] = set()
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            assert found is not None, f"not understood: {text[at:]!r} in {text!r}"
            kind = str(found.lastgroup)
            self.tokens.append((kind, found.group(kind)))
            at = found.end()
        self.value = self._either()
        assert not self.tokens, f"not understood: {self.tokens} in {text!r}"

    def _either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Any:
        value = self._equal()
        while self._take("&&"):
            other = self._equal()
            value = value and other
        return value

    def _equal(self) -> Any:
        value = self._one()
        while self.tokens and self.tokens[0][1] in {"==", "!="}:
            sign = self.tokens.pop(0)[1]
            value = (value == self._one()) is (sign == "==")
        return value

    def _one(self) -> Any:
        if self._take("!"):
            return not self._one()
        if self._take("("):
            value = self._either()
            assert self._take(")")
            return value
        kind, text = self.tokens.pop(0)
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return int(text)
        assert kind == "word", text
        if text in {"true", "false", "null"}:
            return json.loads(text)
        return self._call(text) if self._take("(") else self._look_up(text)

    def _call(self, name: str) -> Any:
        self.called.add(name)
        arguments = []
        while not self._take(")"):
            arguments.append(self._either())
            self._take(",")
        return self.functions[name](*arguments)

    def _look_up(self, name: str) -> Any:
        assert name in self.contexts, f"there is no context {name!r}"
        value = self.contexts[name]
        while self._take("."):
            key = self.tokens.pop(0)[1]
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def _take(self, sign: str) -> bool:
        if self.tokens and self.tokens[0] == ("sign", sign):
            del self.tokens[0]
            return True
        return False


def fill(value: Any, contexts: Mapping[str, Any]) -> Any:
    """Fill the templates of a text, or of every text in a list or mapping; a text that is one template gives its value."""
    if isinstance(value, dict):
        return {name: fill(own, contexts) for name, own in value.items()}
    if isinstance(value, list):
        return [fill(own, contexts) for own in value]
    if not isinstance(value, str):
        return value
    whole = _TEMPLATE.fullmatch(value.strip())
    if whole is not None:
        return Expression(whole[1], contexts, {}).value
    return _TEMPLATE.sub(lambda found: as_text(Expression(found[1], contexts, {}).value), value)


def as_text(value: Any) -> str:
    """Give a value as GitHub puts it into text."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _format(template: str, *values: Any) -> str:
    return re.sub(r"\{(\d+)\}", lambda found: as_text(values[int(found[1])]), template)
