"""Every command that a message, a page or the help names is one, with the options that are named with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from flowdeck.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
CODE = ("cli", "engine", "store", "tui", "public", "examples")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "benchmarks", "examples")
QUOTED = re.compile(r"`(?:\$ )?flowdeck(?: [^`\n]*)?`")
ON_A_LINE = re.compile(r"^[ \t]*(?:\$ )?(flowdeck [^#\n]*)", re.M)
INDENTED = re.compile(r"^[ \t]+(?:\$ )?(flowdeck [^#\n]*)", re.M)
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands in a message for what is only known when it is said."""
GLOBAL = {"--store", "--json", "--no-color", "--no-colour", "--help", "-h"}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module, also the parts of those that are put together, with their line."""
    tree = ast.parse(path.read_text("utf-8"))
    parts = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(
                str(value.value) if isinstance(value, ast.Constant) else UNKNOWN for value in node.values)


def fenced(text: str) -> str:
    """What stands between fences of a page, line by line where it was."""
    shown, inside = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
            shown.append("")
        else:
            shown.append(line if inside else "")
    return "\n".join(shown)


def mentions() -> Iterator[tuple[str, str]]:
    """Where a command line is named, and what is named."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line, text in texts(path):
                for found in (*QUOTED.findall(text), *INDENTED.findall(text)):
                    yield f"{path.relative_to(ROOT)}:{line}", found.strip("`").removeprefix("$ ")
    for name in PAGES:
        place = ROOT / name
        for path in sorted(place.rglob("*.md")) if place.is_dir() else [place]:
            text = path.read_text("utf-8")
            for found in (*QUOTED.findall(text), *ON_A_LINE.findall(fenced(text))):
                yield str(path.relative_to(ROOT)), found.strip("`").removeprefix("$ ")


@cache
def options(command: str) -> frozenset[str]:
    """What a command takes besides its arguments."""
    parser = build_parser()
    actions = next(action for action in parser._actions if action.dest == "command")
    assert isinstance(actions.choices, dict)
    child = actions.choices[command]
    child.command = None
    from importlib import import_module

    import_module(f"flowdeck.cli.{COMMANDS[command].module}").configure(command, child)
    found = set(child._option_string_actions)
    for action in child._actions:
        if isinstance(action.choices, dict):  # words of its own, as in `limits set`
            found |= {option for below in action.choices.values() for option in below._option_string_actions}
    return frozenset(found | GLOBAL)


def wrong_with(named: str) -> str | None:
    """What is wrong with a command line that somebody is told to type; None when nothing is."""
    words = named.split()[1:]
    while words and words[0] in GLOBAL:
        words = words[2 if words[0] == "--store" else 1 :]
    if not words or words[0] == "--version" or named.startswith("flowdeck  "):
        return None  # alone
    if not re.fullmatch(r"[a-z][a-z-]*[|,;.]?", words[0]):
        return None  # a word that stands for any command
    command = words[0].rstrip("|,;.")
    if command not in COMMANDS:
        return f"no command {command!r}"
    for word in words[1:]:
        if word in ("|", "&&", ";", "&", "#", "->"):
            break
        option = word.strip("[](),;.").split("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in options(command):
            return f"`{command}` has no option {option}"
    return None


def test_every_command_that_is_named_is_one() -> None:
    """In messages, in the console, in docstrings, in the pages."""
    found = list(mentions())
    wrong = [f"{place}: {named!r}: {why}" for place, named in found if (why := wrong_with(named)) is not None]
    assert wrong == []
    assert len(found) > 150, "the scan finds too little to mean anything"


def test_a_wrong_one_is_found() -> None:
    """The check would see what it is for."""
    assert wrong_with("flowdeck init") == "no command 'init'"
    assert wrong_with("flowdeck --store X retry 1 --hear") == "`retry` has no option --hear"
    assert wrong_with(f"flowdeck {UNKNOWN} --here 1") is None
    assert wrong_with("flowdeck daemon --stop") is None
    assert ON_A_LINE.findall("two\n  flowdeck demo    examples") == ["flowdeck demo    examples"]
