"""
The command line: words in, exit code out.

Commands are registered by name and imported when they are called, so that ``lastgood --help`` answers at once.
"""

import errno
import logging
import os
import sys
from collections.abc import Sequence

from cyclopts import App

from lastgood import __version__
from lastgood.errors import LastgoodError

INTERRUPTED = 130
# What a person can mend about a disk; every other error of the system is a bug here.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

# Command, where its function is, what it does; grouped as the help shows them.
COMMANDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Local stack": (
        ("up", "lastgood.cli.up:up", "Start the gateway, Prefect and, where installed, Prometheus and Alertmanager."),
        ("down", "lastgood.cli.down:down", "Stop what `up` started and leave no process behind."),
        ("doctor", "lastgood.cli.doctor:doctor", "Look for what would fail later."),
        ("status", "lastgood.cli.status:status", "Show what runs, what is served, and what a rollout waits for."),
    ),
    "Release": (
        ("release", "lastgood.cli.release:release", "Train, compress, gate, register and deploy a model."),
        ("retrain", "lastgood.cli.retrain:retrain", "Train a model again on what is new, and release it."),
        ("train", "lastgood.cli.train:train", "Train a model into a run folder."),
        ("compress", "lastgood.cli.compress:compress", "Make a run's model smaller and faster."),
        ("gate", "lastgood.cli.gate:gate", "Test a run's model and say whether it may be released."),
        ("register", "lastgood.cli.register:register", "Make a run's model an immutable version."),
        ("trigger", "lastgood.cli.trigger:trigger", "Start a release on Jenkins or Prefect and wait for its end."),
        ("new", "lastgood.cli.new:new", "Write a folder with a pipeline of your own to start from."),
    ),
    "Registry": (
        ("list", "lastgood.cli.list_:list_", "List models, or the versions of one."),
        ("show", "lastgood.cli.show:show", "Show a version: content, record, lineage."),
        ("log", "lastgood.cli.log:log", "Show what happened, newest first."),
        ("diff", "lastgood.cli.diff:diff", "Compare two versions."),
        ("at", "lastgood.cli.at:at", "Show which version was live at a time, and why."),
        ("alias", "lastgood.cli.alias:alias", "Give a version a name of your own."),
        ("verify", "lastgood.cli.verify:verify", "Check every stored byte and event."),
        ("gc", "lastgood.cli.gc:gc", "Remove stored bytes that no version needs."),
        ("backup", "lastgood.cli.backup:backup", "Write all of the registry into one file."),
        ("restore", "lastgood.cli.restore:restore", "Make an empty registry what a backup holds."),
        ("key", "lastgood.cli.key:key", "Make or change the key that stored files are encrypted under."),
        ("import", "lastgood.cli.import_:import_", "Register an ONNX file or an exported version."),
        ("export", "lastgood.cli.export:export", "Write a version's files into a folder."),
    ),
    "Serving": (
        ("deploy", "lastgood.cli.deploy:deploy", "Roll a registered version out."),
        ("promote", "lastgood.cli.promote:promote", "End a rollout early: the candidate becomes stable."),
        ("rollback", "lastgood.cli.rollback:rollback", "Take the version that serves out, and put the last good one back."),
        ("unfreeze", "lastgood.cli.unfreeze:unfreeze", "Let a frozen model take releases again."),
        ("lift", "lastgood.cli.lift:lift", "Lift a tombstone, with a reason."),
        ("routes", "lastgood.cli.routes:routes", "Show who gets what now."),
        ("quality", "lastgood.cli.quality:quality", "Show what is known of a model's answers afterwards."),
        ("explain", "lastgood.cli.explain:explain", "Recompute why a version was taken out."),
        ("replay", "lastgood.cli.replay:replay", "Say what another policy would have decided on recorded rollouts."),
        ("predict", "lastgood.cli.predict:predict", "Ask a served model for answers."),
        ("drill", "lastgood.cli.drill:drill", "Release a bad version on purpose and time the way back."),
    ),
}


def build_app() -> App:
    """Give the app with every command registered and none imported."""
    app = App(
        name="lastgood",
        version=__version__,
        help="Release model versions, watch them, and take them back when they go bad.",
        help_format="plaintext",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    for group, commands in COMMANDS.items():
        for name, target, text in commands:
            app.command(target, name=name, help=text, group=group)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    code = run(arguments)
    flows = sys.modules.get("lastgood.flows.outcome")
    if flows is not None and flows.server_left:
        # Prefect's threads would hold the process for minutes, telling a server that is gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give its exit code. A person's mistake is a sentence, a bug a traceback."""
    from cyclopts import CycloptsError

    logging.captureWarnings(capture=True)  # a library's warning is no part of an answer
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if wrong := next((token for token in tokens if not _is_text(token)), None):
        _complain(f"{wrong[:80]!r} is not text in UTF-8.", "usage")
        return 2
    try:
        result = build_app()(tokens)
    except CycloptsError as exc:
        # Its texts end where a person still wonders what to do.
        _complain(f"{str(exc).strip()} Try: lastgood {tokens[0] + ' ' if tokens and not tokens[0].startswith('-') else ''}--help")
        return 2
    except LastgoodError as exc:
        _complain(str(exc), exc.code)
        return exc.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`); Python would complain once more at exit.
        sys.stdout = None
        return 0
    except OSError as exc:
        if exc.errno not in _UNWRITABLE:
            raise
        where = f" {exc.filename}" if exc.filename else ""
        _complain(f"{exc.strerror}:{where}. Make room or get the right to write there, or set LASTGOOD_HOME to another folder.", "system")
        return 7
    return result if isinstance(result, int) else 0


def _is_text(token: str) -> bool:
    """Say whether what a terminal handed over was text: bytes that are none come as lone surrogates."""
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return True


def _complain(message: str, code: str | None = None) -> None:
    sys.stderr.write(f"lastgood: {message}{f'  [{code}]' if code else ''}\n")
