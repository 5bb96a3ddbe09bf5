"""The entry point: reads the words, runs the command, turns what went wrong into one clear line and an exit code.

A command's module is imported only when that command is called, so that ``flowdeck --help`` and the listings start
at once. Exit codes: 0 done, 1 the run failed or crashed, 2 usage, 3 not found, 4 not allowed in this state, 5 store
unusable, 130 cancelled.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from ..engine.errors import FlowdeckError, UsageError
from ..store.driver_errors import store_errors
from ..store.location import find_store, settle
from .output import Output, columns_of

CANCELLED: Final = 130


class Command(NamedTuple):
    """One word after ``flowdeck``."""

    name: str
    module: str
    """File in this folder with ``configure(command, parser)``."""
    usage: str
    summary: str


GROUPS: Final[dict[str, tuple[Command, ...]]] = {
    "start": (
        Command("run", "running", "FILE[:FLOW] -p k=v", "run a flow here and now, in this process"),
        Command("submit", "submitting", "FLOW -p k=v", "queue a run for the daemon; prints its number"),
        Command("daemon", "daemon", "PATH…", "run what is due and submitted, in the foreground, headless"),
        Command("up", "daemon", "PATH…", "a daemon in the background if there is none, then the console"),
        Command("demo", "demo", "", "the shipped examples on a store of their own"),
    ),
    "look": (
        Command("tui", "console", "", "the console (also what flowdeck alone opens)"),
        Command("ls", "listings", "", "runs, newest first"),
        Command("show", "show", "RUN", "one run: its tasks, durations, causes"),
        Command("logs", "logs", "RUN [-f]", "what a run, its tasks and their programs wrote"),
        Command("events", "events", "[-f]", "every transition and request, and who made it"),
        Command("artifacts", "artifacts", "[KEY]", "what was made for people to read; one of them"),
        Command("flows", "listings", "", "flows the daemon can run by name, and files it could not read"),
        Command("schedules", "listings", "", "when they run next"),
    ),
    "control": (
        Command("pause", "control", "RUN…", "start no new task; what runs finishes"),
        Command("suspend", "control", "RUN…", "as pause, then its process ends too; resume goes on by replay"),
        Command("resume", "control", "RUN… [-i k=v]", "go on with a paused run, with the input it asks for"),
        Command("send", "inputs", "RUN JSON", "a message for a run that receives input"),
        Command("freeze", "control", "RUN…", "stop its processes where they are"),
        Command("thaw", "control", "RUN…", "let frozen processes go on"),
        Command("cancel", "control", "RUN[/TASK]…", "end it and every process of it; or one part of it"),
        Command("retry", "retrying", "RUN[/TASK]…", "again, from what did not complete, or from that task on"),
        Command("set-state", "retrying", "RUN/TASK STATE", "count a task as completed or skipped, by hand"),
    ),
    "look after": (
        Command("vars", "variables", "[set NAME VALUE]", "values that flows and people share"),
        Command("limits", "limits", "[set NAME N]", "how many at once: who has slots, who waits"),
        Command("doctor", "doctor", "", "is the store sound? findings and remedies"),
    ),
}
COMMANDS: Final[dict[str, Command]] = {command.name: command for group in GROUPS.values() for command in group}

EPILOG: Final = """\
RUN is 42, #42, 42/7, 42/extract[3], a run's name, @last or @failed; 42/extract is all calls of a map.
Exit codes: 0 done, 1 the run failed or crashed, 2 usage, 3 not found, 4 not allowed in this state,
5 store unusable, 75 the run goes on later (suspended), 130 cancelled."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and leaves the exit to ``main``."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` shows how")


class _CommandParser(_Parser):
    """The parser of one command; its arguments are defined, and its module imported, when it is first used."""

    command: Command | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Define the command's arguments, then parse them."""
        command = self.command
        if command is not None:
            self.command = None
            add_global_options(self, inherit=True)
            import_module(f".{command.module}", __package__).configure(command.name, self)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said here, the way to this command's own help can be said, too
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal; argparse makes one for each argument, and would ask ``shutil``, dear to load."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns_of(sys.stdout) - 2)


class _TopParser(_Parser):
    def format_help(self) -> str:
        """The commands in the order people need them."""
        lines = [
            "usage: flowdeck [--store FOLDER] [--json] [--no-color] COMMAND …",
            "       flowdeck                      opens the console",
            "",
            "Durable Python workflows on one machine, shown in the terminal.",
        ]
        for title, group in GROUPS.items():
            lines += ["", f"{title}:"]
            lines += [f"  {f'{command.name} {command.usage}':<26} {command.summary}" for command in group]
        lines += [
            "",
            "options, before or after the command:",
            f"  {'--store FOLDER':<26} else $FLOWDECK_STORE, the nearest .flowdeck/ upwards, your data folder",
            f"  {'--json':<26} data as JSON: an array, with -f one object a line",
            f"  {'--no-color':<26} plain text ($NO_COLOR too; colour never goes to a pipe)",
            f"  {'--version':<26} the version",
            f"  {'--help':<26} this; `flowdeck COMMAND --help` for one command",
            "",
            EPILOG,
            "",
        ]
        return "\n".join(lines)


def add_global_options(parser: argparse.ArgumentParser, *, inherit: bool = False) -> None:
    """The options every command takes, before or after its name."""
    absent: Any = argparse.SUPPRESS if inherit else None
    parser.add_argument("--store", metavar="FOLDER", default=absent, help="the store's folder")
    parser.add_argument("--json", action="store_true", default=absent, help="data as JSON")
    parser.add_argument("--no-color", "--no-colour", action="store_true", default=absent, help="plain text")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; commands define their own arguments when called."""
    parser = _TopParser(prog="flowdeck", formatter_class=_Formatter, allow_abbrev=False)
    add_global_options(parser)
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_CommandParser)
    for command in COMMANDS.values():
        child = commands.add_parser(
            command.name,
            prog=f"flowdeck {command.name}",
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog=EPILOG,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        child.command = command
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code and raises nothing that a person could have caused."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # started with it closed, as in `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the whole life
    words = list(sys.argv[1:] if argv is None else argv)
    out = Output(colour=False if "--no-color" in words or "--no-colour" in words else None)
    try:
        code = _run(words, out)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()  # whoever read it has seen enough
        return 0
    except OSError as error:
        _discard_output()
        out.complain(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            out.say("")
        return CANCELLED
    return code


def _discard_output() -> None:
    """What standard output still holds goes nowhere, so that the interpreter's own flush at exit does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str], out: Output) -> int:
    args = None
    try:
        args = parse(words)
        if args.version:
            from importlib.metadata import version

            out.line(f"flowdeck {version('flowdeck')}")
            return 0
        if args.command is None:
            args = parse([*words, "tui"])
        out.as_json = bool(args.json)
        if args.store:
            args.store = str(find_store(args.store))
            settle(args.store)  # what is started from here sees the same one
        with store_errors(lambda: _state_file(args)):  # a damaged page is met in the middle of a read
            code: int = args.handler(args, out)
    except FlowdeckError as error:
        out.complain(str(error))
        return error.exit_code
    except SystemExit as done:  # argparse after --help, a signal in a demo
        return done.code if isinstance(done.code, int) else 2
    return code


def _state_file(args: argparse.Namespace) -> Path:
    from .opening import folder_of

    return folder_of(args) / "state.db"


def parse(argv: list[str]) -> argparse.Namespace:
    """The words as a namespace whose ``handler`` is the command; raises ``UsageError`` in words for people."""
    parser = build_parser()
    try:
        return parser.parse_args(argv)
    except UsageError:
        word = _culprit(argv)
        if word and word not in COMMANDS:
            raise UsageError(_unknown_command(word)) from None
        raise


def _culprit(argv: list[str]) -> str:
    """The word that stands where a command should: the first that is neither an option nor an option's value."""
    words = iter(argv)
    for word in words:
        if word == "--store":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _unknown_command(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1, cutoff=0.7)
    hint = f"did you mean `flowdeck {near[0]}`?" if near else "`flowdeck --help` lists them"
    return f"no command {word!r}; {hint}"
