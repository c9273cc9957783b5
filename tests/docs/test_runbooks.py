"""Every alert has a page, every page an alert, and the commands of the pages exist."""

import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from lastgood.cli import COMMANDS, build_app
from lastgood.grafana.alerting import NOT_WATCHED
from lastgood.monitoring.signals.rules import build_rules

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
SECTIONS = ["What it means", "What lastgood did", "Look first", "Do", "How it ends"]


def commands(text: str) -> list[str]:
    """Give the lastgood commands of a page, in code and between the lines."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [found.split("#")[0].strip() for found in (*lines, *inline) if found.startswith("lastgood ")]


def check_command(command: str) -> None:
    """Raise if it is none: words, options and their values are read as the command line reads them."""
    tokens = shlex.split(command)[1:]
    assert tokens[0] in {name for group in COMMANDS.values() for name, _, _ in group}, command
    build_app().parse_args(tokens, exit_on_error=False, print_error=False)


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    """Prometheus' rules and Grafana's own one."""
    assert sorted([*(rule.name for rule in build_rules()), NOT_WATCHED.name]) == [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_what_to_do_and_how_it_ends(page: Path) -> None:
    """In this order, under its alert's name, in commands that exist."""
    text = page.read_text("utf-8")
    assert text.startswith(f"# {page.stem}\n")
    assert SECTIONS == re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert commands(text)
    for command in commands(text):
        check_command(command)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (page.parent / link).exists()


@pytest.mark.parametrize("wrong", ["lastgood undo digits", "lastgood rollback digits --why-not x", "lastgood rollback", "lastgood lift"])
def test_a_command_that_does_not_exist_is_found(wrong: str) -> None:
    """Otherwise the test above would test nothing."""
    with pytest.raises((AssertionError, CycloptsError)):
        check_command(wrong)
