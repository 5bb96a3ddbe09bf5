"""Write what the documentation takes from the code: docs/state-machine.md, tables in README.md, the tree of the house.

``make docs`` runs it; ``python docs/generate.py --check`` changes nothing and exits with 1 when something is stale
(tests/test_architecture.py holds the same). Nothing here states a rule: rules stand in ``engine/states/machine.py``,
words about the states in ``store/states.py``, commands in ``cli/main.py``, keys in ``tui/actions.py``, the floors in
``tests/test_architecture.py``, each room's duty in its ``__init__.py``.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from types import ModuleType

from flowdeck.cli.main import COMMANDS
from flowdeck.engine.states.machine import RUN_TABLE, TASK_TABLE, Target
from flowdeck.store.states import NAMES, STATE_TYPES, TERMINAL_TYPES
from flowdeck.tui.actions import ACTIONS, BY_ID, MOVES, key_word

ROOT = Path(__file__).resolve().parent.parent
PAGE_HEAD = """\
# The state machine

Made by `make docs` from `engine/states/machine.py` and `store/states.py`: change those, not this page.

A state has a **type**, which programs test, and a **name**, which people read. *State is what is; intent is what was
asked*: a request to pause, freeze or cancel is no state. A pair that is not in the tables below is refused with
`NotAllowed` (exit code 4); nothing is allowed by default. The store applies each change as a compare-and-set
together with its event, in one transaction.
"""


def state_machine_page() -> str:
    """The whole of docs/state-machine.md."""
    parts = [
        PAGE_HEAD,
        "## States\n",
        _states_table(),
        "## Flow runs\n",
        _figure(RUN_TABLE, "SCHEDULED"),
        _transitions_table(RUN_TABLE),
        "## Task runs\n",
        "`run again` is the run's next attempt reaching the call anew. A task run named NotReady has ended although\n"
        "its type is PENDING.\n",
        _figure(TASK_TABLE, "PENDING"),
        _transitions_table(TASK_TABLE),
    ]
    return "\n".join(parts)


def readme_with_tables(readme: str) -> str:
    """The README with the tables of commands and keys made anew between their markers."""
    return _between(_between(readme, "commands", command_table()), "keys", key_table())


def command_table() -> str:
    """The commands as a Markdown table, in the order ``flowdeck --help`` has."""
    rows = ((f"`{f'{command.name} {command.usage}'.strip()}`", command.summary) for command in COMMANDS.values())
    return _markdown_table(("`flowdeck …`", "does"), rows)


def key_table() -> str:
    """The console's keys as a Markdown table: what can be done, then how to move."""
    rows = [(_spelt(action.keys), ", ".join(action.places), action.help) for action in ACTIONS]
    # Marking is an action and a move of the lists at once; once is enough.
    rows += [(_spelt(keys), "lists", text) for name, keys, text in MOVES if name not in BY_ID]
    return _markdown_table(("key", "where", "does"), rows)


def _spelt(keys: str) -> str:
    return " ".join(f"`{key_word(key)}`" for key in keys.split(","))


def _between(text: str, marker: str, table: str) -> str:
    before, begin, rest = text.partition(f"<!-- {marker} -->\n")
    _, end, after = rest.partition(f"<!-- /{marker} -->")
    if not begin or not end:
        raise SystemExit(f"README.md has no <!-- {marker} --> … <!-- /{marker} --> to write between")
    return f"{before}{begin}{table}{end}{after}"


def _states_table() -> str:
    told = _words_about_states()
    rows = (
        (f"`{kind}`", ", ".join(NAMES[kind]), "yes" if kind in TERMINAL_TYPES else "", told[kind])
        for kind in STATE_TYPES
    )
    return _markdown_table(("type", "names", "final", "what it means"), rows)


def _words_about_states() -> dict[str, str]:
    """The text under each constant of store/states.py, by the constant's name."""
    body = ast.parse((ROOT / "store" / "states.py").read_text(encoding="utf-8")).body
    told: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            told[statement.target.id] = " ".join(str(following.value.value).split())
    return told


def _figure(table: dict[str, dict[str, Target]], start: str) -> str:
    """A mermaid figure of the types; events that lead the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state_type, row in table.items():
        for event, target in row.items():
            arrows.setdefault((state_type, target.state_type), []).append(_spoken(event))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    lines += [f"    {kind} --> [*]" for kind in table if kind in TERMINAL_TYPES]
    return "\n".join([*lines, "```", ""])


def _transitions_table(table: dict[str, dict[str, Target]]) -> str:
    rows = (
        (f"`{state_type}`", _spoken(event), f"`{target.state_type}` {target.state_name}")
        for state_type, row in table.items()
        for event, target in row.items()
    )
    return _markdown_table(("in", "event", "goes to"), rows)


def _spoken(event: str) -> str:
    return event.replace("_", " ")


def _markdown_table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def rules() -> ModuleType:
    """The tables of tests/test_architecture.py, which hold the house to what is drawn of it."""
    name = "flowdeck_rules"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "test_architecture.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def _duty(path: Path) -> str:
    """The first paragraph of a file's docstring, in one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def floors(depth: str = "") -> str:
    """The rooms of the engine, of the run side and of the console from the ground up, as a tree with their duties."""
    lines = []
    for folder, names in (("engine", rules().FLOORS), ("engine/running", rules().RUNNING), ("tui", rules().TUI_FLOORS)):
        lines.append(f"{depth}{folder}/")
        for name in names:
            room = ROOT / folder / name / "__init__.py"
            path = room if room.exists() else ROOT / folder / f"{name}.py"
            if path.exists():
                shown = f"{name}/" if path == room else path.name
                lines += wrap(f"{depth}  {shown:<14}{_duty(path)}", 118, subsequent_indent=depth + " " * 16)
    doors = [f"{depth}  {name.replace('.', '/')}.py: {why}" for name, why in rules().DOORS.items()]
    if doors:
        lines += [f"{depth}doors", *doors]
    return "\n".join(lines) + "\n"


def engine_page() -> str:
    """The whole of engine/README.md."""
    return f"""\
# The engine's rooms

Made by `make docs` from the table that `tests/test_architecture.py` holds the code to. From the ground up: a room
imports those above it in this list, never one below, lazily or for a type neither. Inside `running/` an import for
types may point up. `control` and `daemon` keep rows only: they never know what users write nor the process of a run.

```
{floors()}```
"""


def wanted_files() -> dict[Path, str]:
    """Each generated file and what it should hold now."""
    readme = ROOT / "README.md"
    design = ROOT / "docs" / "design.md"
    return {
        ROOT / "engine" / "README.md": engine_page(),
        design: _between(design.read_text(encoding="utf-8"), "floors", f"```\n{floors()}```\n"),
        ROOT / "docs" / "state-machine.md": state_machine_page(),
        readme: readme_with_tables(readme.read_text(encoding="utf-8")),
    }


def main() -> int:
    """Write what is stale, or with ``--check`` only say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a file is stale")
    only_check = parser.parse_args().check
    stale = [
        path for path, text in wanted_files().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        sys.stderr.write(f"{path.relative_to(ROOT)} {'is stale: run make docs' if only_check else 'written'}\n")
        if not only_check:
            path.write_text(wanted_files()[path], encoding="utf-8")
    return 1 if stale and only_check else 0


if __name__ == "__main__":
    raise SystemExit(main())
