"""The house rules of docs/design.md, section 1, checked by reading the source and by importing in fresh processes."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.xdist_group("sources")

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("public", "store", "engine", "tui", "cli")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "flowdeck.store": ("flowdeck.store",),
    "flowdeck.engine": ("flowdeck.engine", "flowdeck.store"),
    "flowdeck.tui": (
        "flowdeck.tui", "flowdeck.store", "flowdeck.engine.control.control", "flowdeck.engine.states.allowed",
    ),
    "flowdeck.cli": ("flowdeck",),
    "flowdeck.__main__": ("flowdeck.cli.main",),
}  # fmt: skip
"""Who may import what of ours; a name stands for itself and everything below it. The rest is what users import."""

PURE = (
    "engine/states/machine.py", "engine/states/allowed.py", "engine/authoring/retries.py",
    "engine/schedules/schedule.py", "engine/schedules/kinds.py", "engine/schedules/rules.py",
    "engine/schedules/composite.py", "engine/schedules/options.py", "engine/schedules/ticks.py",
    "engine/schedules/filters.py", "engine/schedules/adjustments.py", "engine/schedules/time_zones.py",
    "engine/encoding/json_schema.py",
    *(f"tui/{room}/{path.name}" for room in ("text", "models") for path in sorted((ROOT / "tui" / room).glob("*.py"))),
)  # fmt: skip
IMPURE = {
    "asyncio", "concurrent", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib", "select", "selectors",
    "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "textual", "threading", "time",
}  # fmt: skip
ALLOWED_IN_PURE = {
    ("engine/schedules/time_zones.py", "os"): "the zone's name, read once when a schedule says 'local'",
    ("tui/models/log_lines.py", "textual.strip"): "a line as the terminal gets it: a value",
    ("tui/look/theme.py", "os"): "colours and glyphs, chosen once by the terminal's environment",
    ("tui/look/theme.py", "textual.theme"): "Textual's colours, as values",
}
CLOCK_CALLS = {"now", "today", "utcnow", "monotonic", "perf_counter", "time_ns", "getenv", "open", "print", "input"}

HEAVY: dict[str, tuple[str, ...]] = {
    "sqlalchemy": ("store/models.py", "store/migrate.py", "store/migrations/"),
    "sqlmodel": ("store/models.py", "store/migrate.py", "store/migrations/"),
    "alembic": ("store/migrate.py", "store/migrations/"),
    "textual": ("tui/", "cli/web.py"),
    "rich": ("tui/",),
    "pydantic": (
        "engine/authoring/parameters.py", "engine/encoding/codec.py", "engine/encoding/fingerprint.py",
        "engine/sdk/run_inputs.py",
    ),
    "croniter": ("engine/schedules/schedule.py",),
    "dateutil": ("engine/schedules/rules.py",),
    "tenacity": ("engine/authoring/retries.py",),
    "watchfiles": ("engine/daemon/watchers.py",),
    "cloudpickle": ("engine/encoding/codec.py", "engine/running/runners/payloads.py"),
    "pickle": ("engine/encoding/codec.py", "engine/running/runners/payloads.py"),
}
"""Each library with a price, and who may pay it: the modules that exist to adapt it."""

BROAD_EXCEPTS: dict[str, str] = {
    "engine/running/lifecycle/attempts.py": "the user's retry condition and delay function",
    "engine/running/lifecycle/repeats.py": "classes of theirs that no longer unpickle",
    "engine/prefect1/rules.py": "the user's triggers",
    "engine/prefect1/state_handlers.py": "the user's state handlers, and the function they stand around",
    "engine/prefect1/tasks.py": "the user's annotations",
    "engine/running/effects/borders.py": "the exception itself: its attributes may raise",
    "engine/running/transactions/caching.py": "the user's cache key function or policy",
    "engine/prefect1/walk.py": "the user's iterables",
    "engine/encoding/tracebacks.py": "the user's exception, which may not even be printable",
    "engine/running/output/log_handler.py": "the user's logging arguments",
    "engine/running/run_process/code_host.py": "the process of user code: says it, then ends",
    "engine/running/run_process/nursery.py": "a fork that is to be a host: says it, then ends",
    "engine/running/slots/queue.py": "a service tick",
    "engine/daemon/watchers.py": "a service thread: says it",
    "engine/running/run_process/guard.py": "a forked process: says it, then ends",
    "engine/running/run_process/guarding.py": "a forked process: ends",
    "engine/encoding/codec.py": "the user's __reduce__ and __repr__",
    "engine/encoding/sizes.py": "the user's __getattr__ and __len__",
    "engine/running/effects/effects.py": "user code; the steps that called it decide",
    "engine/running/calls/flow_run.py": "classes of theirs that no longer unpickle",
    "engine/running/lifecycle/flow_steps.py": "the user's flow, and its retry condition",
    "engine/daemon/dispatcher.py": "what goes wrong with one run's host: raised once the others are handed on",
    "engine/daemon/scheduler.py": "one schedule that cannot be dealt with: the others can, and it is said",
    "engine/system/loop.py": "one step of the daemon, which must not take the others down; it is said and tried again",
    "engine/running/calls/futures.py": "the user's callbacks",
    "engine/running/lifecycle/generators.py": "the user's body that yields; the steps that called it decide",
    "engine/running/calls/hooks.py": "the user's hooks",
    "engine/running/runners/drive.py": "user code on a pool's thread: its future settles whatever happens",
    "engine/running/runners/threads.py": "user code on a pool's thread: its future settles whatever happens",
    "engine/running/run_process/watcher.py": "a service tick: timers and requests hang on its thread",
    "engine/states/state.py": "the user's __str__",
    "engine/running/lifecycle/task_steps.py": "the user's task",
    "engine/running/run_process/schedule_filters.py": "the user's filter of a schedule",
    "engine/authoring/parameters.py": "the JSON forms that the user's classes give",
    "engine/running/runners/payloads.py": "the user's __reduce__",
    "engine/sdk/sh.py": "a command's thread: raised where it is awaited",
    "engine/running/runners/fork_client.py": "a service tick: all workers' output hangs on its thread",
    "engine/running/runners/worker_main.py": "the user's task, initializer and classes",
    "engine/running/runners/processes.py": "the user's task, and parameters that cannot be pickled",
    "engine/running/transactions/hooks.py": "the user's rollback and commit hooks",
    "tui/feed/thread.py": "one look of the console's thread; it is said on the screen and tried again",
    "store/writer.py": "operations handed in from elsewhere; each one's error goes back to whoever handed it in",
}
"""The borders where any exception is expected, and whose it is. Everywhere else the exceptions are named."""

NO_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "base", "common", "misc", "core", "stuff"}


class Import(NamedTuple):
    """One imported module, as an absolute name."""

    name: str
    line: int
    relative: bool
    lazy: bool
    """Inside a function: paid at the first call, not at import."""
    typing_only: bool


class Module(NamedTuple):
    """One source file of the package."""

    path: str
    """Relative to the repository."""
    name: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


@functools.cache
def modules() -> dict[str, Module]:
    """Every source file of the package, the tests, documents and benchmarks left out, by module name."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {}
    for path in sorted(paths):
        relative = path.relative_to(ROOT)
        parts = relative.with_suffix("").parts
        parts = parts[1:] if parts[0] == "public" else parts
        name = ".".join(("flowdeck", *(parts[:-1] if parts[-1] == "__init__" else parts)))
        found[name] = Module(relative.as_posix(), name, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


@functools.cache
def imports_of(module: Module) -> tuple[Import, ...]:
    """What a module imports anywhere in it, relative imports resolved, ``from package import module`` followed."""
    return tuple(_imports(module, module.tree, lazy=False, typing_only=False))


def _imports(module: Module, node: ast.AST, *, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, False, lazy, typing_only)
        elif isinstance(child, ast.ImportFrom):
            source = _absolute(module, child)
            for alias in child.names:
                below = f"{source}.{alias.name}"
                yield Import(below if below in modules() else source, child.lineno, child.level > 0, lazy, typing_only)
        else:
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(module, child, lazy=lazy or inside, typing_only=typing_only or guarded)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = module.name.split(".")
    package = package[: len(package) - node.level + (1 if module.is_package else 0)]
    return ".".join([*package, *(node.module.split(".") if node.module else [])])


def lines(module: Module) -> list[str]:
    """The source, line by line."""
    return (ROOT / module.path).read_text(encoding="utf-8").splitlines()


def is_within(name: str, tops: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of ``tops`` or below one."""
    return any(name == top or name.startswith(top + ".") for top in tops)


def place(module: Module, line: int) -> str:
    """``file:line`` for a failure's text."""
    return f"{module.path}:{line}"


def test_the_import_rule() -> None:
    """store imports no sibling, engine only store, tui only store and control, cli all; nobody imports cli."""
    wrong = []
    for module in modules().values():
        folder = next((top for top in MAY_IMPORT if is_within(module.name, (top,))), None)
        for one in imports_of(module):
            if folder is None:
                allowed = not is_within(one.name, ("flowdeck.tui", "flowdeck.cli"))
            else:
                allowed = is_within(one.name, MAY_IMPORT[folder])
            if is_within(one.name, ("flowdeck",)) and not allowed:
                wrong.append(f"{place(module, one.line)} imports {one.name}")
    assert wrong == []


FLOORS = (
    "errors", "settings", "context", "system", "secrets", "schedules", "states", "encoding", "control", "daemon",
    "authoring", "running", "sdk", "prefect1",
)  # fmt: skip
"""The rooms of the engine from the ground up; a room knows those before it only."""
RUNNING = ("effects", "calls", "output", "slots", "transactions", "runners", "lifecycle", "run_process")
"""The floors inside ``running``; there, and only there, an import for types may point up."""
KEEPING = ("control", "daemon")
"""Rooms that know rows only: nothing of what users write, nothing of the process of a run."""
STARTED_BY_NAME = ("engine.code_host", "engine.worker_host")
"""Names by which processes of the version before start ours."""
DOORS: dict[str, str] = {
    "engine.authoring.engine": "calling a task, a flow or a transaction runs it: in plain Python the call is the door",
    "engine.authoring.prefect1": "`Flow('name')` and subclasses of Task are written with the classes of both styles",
    "engine.authoring.serving": "`flow.serve()` is a method of the flow, and a daemon",
}
"""Small typed modules through which a room reaches up, each with its reason; their docstrings begin "Door from"."""

def room_of(name: str) -> str:
    """``flowdeck.engine.states.machine`` is in ``states``; a file beside the rooms is a room of its own."""
    return name.split(".")[2] if name.count(".") >= 2 else ""


def points_up(module: Module, one: Import) -> bool:
    """Whether an import of the engine goes to a higher floor, or from those who keep rows to those who run code."""
    own, other = room_of(module.name), room_of(one.name)
    if own in KEEPING and other in FLOORS[FLOORS.index("authoring") :]:
        return True
    if own == other == "running":
        inner = [name.split(".")[3] for name in (module.name, one.name) if name.count(".") >= 4]
        return len(inner) == 2 and RUNNING.index(inner[1]) > RUNNING.index(inner[0]) and not one.typing_only
    return own in FLOORS and other in FLOORS and FLOORS.index(other) > FLOORS.index(own)


def test_imports_of_the_engine_go_down() -> None:
    """No room knows a room above it, lazily, for a type or otherwise: what is above is handed in, or is a protocol."""
    found = set()
    for module in modules().values():
        if is_within(module.name, ("flowdeck.engine",)) and module.name.removeprefix("flowdeck.") not in DOORS:
            for one in imports_of(module):
                if is_within(one.name, ("flowdeck.engine",)) and points_up(module, one):
                    found.add((module.name.removeprefix("flowdeck.engine."), one.name.removeprefix("flowdeck.engine.")))
    assert found == set()


def test_every_file_of_the_engine_is_in_a_room() -> None:
    """Every floor is there, and beside them stand the names that older versions start."""
    rooms = {room_of(module.name) for module in modules().values() if is_within(module.name, ("flowdeck.engine",))}
    names = {name.removeprefix("engine.") for name in STARTED_BY_NAME}
    assert rooms - {""} == {*names, *FLOORS}


def test_the_daemon_is_told_the_time() -> None:
    """Who decides in the daemon reads no clock: ``daemon`` has one, and ``rounds`` hands on what it says."""
    wrong = []
    for module in modules().values():
        if is_within(module.name, ("flowdeck.engine.daemon",)) and not module.path.endswith("/daemon.py"):
            for node in ast.walk(module.tree):
                names = {alias.name for alias in node.names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
                if names & {"time", "now", "now_us"} or (isinstance(node, ast.ImportFrom) and node.module == "time"):
                    wrong.append(place(module, getattr(node, "lineno", 0)))
                if isinstance(node, ast.Attribute) and node.attr in {"utcnow", "today", "monotonic_ns", "time_ns"}:
                    wrong.append(place(module, node.lineno))
    assert wrong == []


def test_the_doors_say_what_they_are() -> None:
    """Each says from where to where it leads, is small, and knows nothing but the one it opens to."""
    for name in DOORS:
        door = modules()[f"flowdeck.{name}"]
        assert (ast.get_docstring(door.tree) or "").startswith("Door from "), name
        assert len(lines(door)) <= 150, name


def test_no_module_reaches_itself() -> None:
    """Following imports of every kind (doors, and inside ``running`` those for types, aside) never leads back."""
    below: dict[str, set[str]] = {}
    for module in modules().values():
        inner = is_within(module.name, ("flowdeck.engine.running",))
        door = module.name.removeprefix("flowdeck.") in DOORS
        below[module.name] = set() if door else {
            one.name for one in imports_of(module)
            if one.name in modules() and one.name != "flowdeck" and not (one.typing_only and inner)
        }  # fmt: skip
    circle = set()
    for start in below:
        seen: set[str] = set()
        waiting = list(below[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += below[name]
        if start in seen:
            circle.add(start.removeprefix("flowdeck."))
    assert circle == set()


MOVES_ROWS = "engine/states/transitions.py"
LIVE_RECORDS = ("engine/running/calls/flow_run.py", "engine/running/calls/task_call.py")
"""They move by the table themselves; their rows follow."""


def test_one_place_moves_rows() -> None:
    """Rows of runs and tasks change their state in states/transitions only; nothing sets a state beside the table."""
    movers = {"runs.transition", "tasks.transition", "runs.claim_these", "journals.give_up"}
    wrong = []
    for module in modules().values():
        if not is_within(module.name, ("flowdeck.engine",)) or module.path == MOVES_ROWS:
            continue
        for node in ast.walk(module.tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in movers:
                wrong.append(f"{place(module, node.lineno)} calls {called}")
            is_set = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == "state_type"
            if is_set and module.path not in LIVE_RECORDS:
                wrong.append(f"{place(module, node.lineno)} sets a state")
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "SET state_type" in node.value:
                wrong.append(f"{place(module, node.lineno)} writes a state")
    assert wrong == []


def test_our_modules_import_each_other_relatively() -> None:
    """Editors and type checkers follow only relative ones in this layout; but from ``public``, which lies beside."""
    absolute = [
        f"{place(module, one.line)} imports {one.name}"
        for module in modules().values()
        for one in imports_of(module)
        if is_within(one.name, ("flowdeck",)) and not one.relative and not module.path.startswith("public/")
    ]
    assert absolute == []


@pytest.mark.parametrize("path", PURE)
def test_the_pure_modules_are_pure(path: str) -> None:
    """No I/O, no clock, no threads, neither in the module itself nor in anything of ours that it loads."""
    start = next(module for module in modules().values() if module.path == path)
    for module in loaded_with(start):
        touched = [
            f"{place(module, one.line)} imports {one.name}"
            for one in imports_of(module)
            if one.name.split(".")[0] in IMPURE and not one.typing_only
            if (module.path, one.name) not in ALLOWED_IN_PURE
        ]
        assert touched == []
    calls = [node for node in ast.walk(start.tree) if isinstance(node, ast.Call)]
    names = [(node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""), node.lineno)
             for node in calls]  # fmt: skip
    assert [f"{place(start, line)} calls {name}" for name, line in names if name in CLOCK_CALLS] == []


def loaded_with(start: Module) -> list[Module]:
    """The modules of ours that importing ``start`` loads, itself included; packages' __init__ count as well."""
    seen: dict[str, Module] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module.name in seen:
            continue
        seen[module.name] = module
        names = [one.name for one in imports_of(module) if not one.typing_only and not one.lazy]
        waiting += [modules()[name] for name in names if name in modules()]
    return list(seen.values())


def test_heavy_libraries_stay_in_their_modules() -> None:
    """What costs start-up time or is dangerous (unpickling) is imported only where it is adapted."""
    wrong = []
    for module in modules().values():
        for one in imports_of(module):
            home = HEAVY.get(one.name.split(".")[0])
            if home is not None and not one.typing_only and not module.path.startswith(home):
                wrong.append(f"{place(module, one.line)} imports {one.name}")
    assert wrong == []


def test_the_console_reads_through_the_store_only() -> None:
    """No SQL and no processes in the console: it reads by store.reader and store.changes and asks engine.control."""
    forbidden = {"sqlite3", "subprocess", "multiprocessing"}
    wrong = [
        f"{place(module, one.line)} imports {one.name}"
        for module in modules().values()
        for one in imports_of(module)
        if module.name.startswith("flowdeck.tui") and one.name.split(".")[0] in forbidden
    ]
    assert wrong == []


SQL_TEXT = re.compile(
    r"\s*(SELECT\s+(\*|DISTINCT\b|[\w.,()\s*]+\sFROM\b)|INSERT\s+(OR\s+\w+\s+)?INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s"
    r"|REPLACE\s+INTO\s|CREATE\s+(TEMP\s+)?(TABLE|INDEX|VIEW|TRIGGER)\s|WITH\s+(RECURSIVE\s+)?\w+\s.*\bAS\s*\(|VACUUM\b"
    r"|(BEGIN|COMMIT|ROLLBACK)\s*;?\s*$|SAVEPOINT\s)"
    r"|.*\b(BEGIN\s+(IMMEDIATE|EXCLUSIVE|DEFERRED)|PRAGMA)\b",
    re.DOTALL,
)
"""How a text of SQL begins, and what is one wherever it stands."""
STATEMENT_CALLS = {"execute", "executemany", "executescript"}


def text_of(node: ast.AST) -> str | None:
    """A literal's text, documentation included; of a formatted one what is not a value."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@pytest.mark.parametrize(
    ("text", "is_sql"),
    [
        ("SELECT id, name FROM flow", True), ("SELECT * FROM x", True), ("  UPDATE flow SET name = ?", True),
        ("INSERT OR REPLACE INTO result (a)", True), ("DELETE FROM lease WHERE x", True), ("BEGIN", True),
        ("PRAGMA data_version", True), ("looks at ``PRAGMA data_version``", True), ("BEGIN IMMEDIATE", True),
        ("COMMIT", True), ("COMMITTED", False), ("Update what is shown", False), ("BEGINNING", False),
        ("select a run", False), ("With a task (AS is)", False), ("DELETE", False),
    ],
)  # fmt: skip
def test_sql_is_told_from_other_texts(text: str, is_sql: bool) -> None:
    """What the next test looks for: statements and the words of transactions, not words that begin like them."""
    assert bool(SQL_TEXT.match(text)) == is_sql


def test_only_the_store_knows_sql() -> None:
    """Outside of it no driver is imported, no statement written or run, no transaction begun or ended by hand."""
    wrong = []
    for module in modules().values():
        if is_within(module.name, ("flowdeck.store",)):
            continue
        for one in imports_of(module):
            if one.name.split(".")[0] == "sqlite3":
                wrong.append(f"{place(module, one.line)} imports {one.name}")
        for node in ast.walk(module.tree):
            if SQL_TEXT.match(text_of(node) or ""):
                wrong.append(f"{place(module, getattr(node, 'lineno', 0))} has SQL: {text_of(node)}")
            if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in STATEMENT_CALLS:
                wrong.append(f"{place(module, node.lineno)} runs a statement")
    assert wrong == []


TABLES_MAY_IMPORT = (
    "flowdeck.store.tables", "flowdeck.store.connection", "flowdeck.store.errors", "flowdeck.store.judging",
    "flowdeck.store.rows", "flowdeck.store.states",
)  # fmt: skip
BELOW_CONNECTIONS = (
    "checkpoint", "driver_errors", "errors", "files", "location", "lock_holder", "locking", "judging", "rows", "states",
    "trust",
)  # fmt: skip
"""Files of the store that know no connection of its own, so that everything in it may use them."""
MIGRATING = ("store/models.py", "store/migrate.py", "store/migrations/")
"""What knows SQLAlchemy; only ``migrate`` is asked for from elsewhere, and only once it is needed."""


def test_tables_know_rows_and_the_connection_they_are_given() -> None:
    """Statements stand above rows, states and errors, beside each other: they know no reader, no writer, no opening."""
    wrong = []
    for module in modules().values():
        if is_within(module.name, ("flowdeck.store.tables",)):
            for one in imports_of(module):
                if is_within(one.name, ("flowdeck",)) and not is_within(one.name, TABLES_MAY_IMPORT):
                    wrong.append(f"{place(module, one.line)} imports {one.name}")
    assert wrong == []


def test_tables_neither_open_nor_begin() -> None:
    """A function of a table works on the connection, and within the transaction, that its caller hands in."""
    names = {"connect", "transaction", "read_transaction", "begin_immediate"}
    words = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|PRAGMA)\b")
    wrong = []
    for module in modules().values():
        if is_within(module.name, ("flowdeck.store.tables",)):
            for node in ast.walk(module.tree):
                taken = {alias.name for alias in node.names} & names if isinstance(node, ast.ImportFrom) else set()
                if taken or words.match(text_of(node) or ""):
                    wrong.append(f"{place(module, getattr(node, 'lineno', 0))}: {taken or text_of(node)}")
    assert wrong == []


def test_the_ground_of_the_store_knows_no_connection() -> None:
    """Rows, states, errors, locks and what the driver's errors mean stand below connections, tables and readers."""
    ground = tuple(f"flowdeck.store.{name}" for name in BELOW_CONNECTIONS)
    wrong = [
        f"{place(module, one.line)} imports {one.name}"
        for module in modules().values()
        if module.name in ground
        for one in imports_of(module)
        if is_within(one.name, ("flowdeck",)) and one.name not in ground
    ]
    assert wrong == []


def test_migrating_is_asked_for_only_when_it_is_needed() -> None:
    """SQLAlchemy, SQLModel and Alembic cost 0.3 s: whoever leads to them does so within a function."""
    wrong = [
        f"{place(module, one.line)} imports {one.name}"
        for module in modules().values()
        if not module.path.startswith(MIGRATING)
        for one in imports_of(module)
        if is_within(one.name, ("flowdeck.store.models", "flowdeck.store.migrate", "flowdeck.store.migrations"))
        if not one.lazy and not one.typing_only
    ]
    assert wrong == []


TUI_FLOORS = ("text", "look", "models", "feed", "widgets", "dialogs", "screens")
"""The rooms of the console from the ground up; what stands beside them is the app and what it is made of."""


def test_imports_of_the_console_go_down() -> None:
    """A room of the console knows those below it only; of the files beside the rooms those that are no app."""
    wrong = []
    for module in modules().values():
        own = room_of(module.name) if is_within(module.name, ("flowdeck.tui",)) else ""
        for one in imports_of(module):
            other = room_of(one.name) if is_within(one.name, ("flowdeck.tui",)) else ""
            if own in TUI_FLOORS and other in TUI_FLOORS and TUI_FLOORS.index(other) > TUI_FLOORS.index(own):
                wrong.append(f"{place(module, one.line)} imports {one.name}")
            if own in TUI_FLOORS and other in ("app", "console", "verbs", "parts", "header_footer"):
                wrong.append(f"{place(module, one.line)} imports {one.name}")
    assert wrong == []


def test_only_the_feed_reads_the_store() -> None:
    """Rooms above and below the feed know the store's rows, states and words; its reader and files only the feed."""
    values = ("flowdeck.store.rows", "flowdeck.store.states", "flowdeck.store.errors", "flowdeck.store.tables.nodes",
              "flowdeck.store.tables.usages", "flowdeck.store.patterns")  # fmt: skip
    wrong = [
        f"{place(module, one.line)} imports {one.name}"
        for module in modules().values()
        for one in imports_of(module)
        if room_of(module.name) in set(TUI_FLOORS) - {"feed"} and is_within(module.name, ("flowdeck.tui",))
        if is_within(one.name, ("flowdeck.store",)) and not is_within(one.name, values)
    ]
    assert wrong == []


def test_the_command_line_takes_words_from_the_console_only() -> None:
    """Of the console the command line knows its texts, and in one file the door that opens it."""
    wrong = [
        f"{place(module, one.line)} imports {one.name}"
        for module in modules().values()
        for one in imports_of(module)
        if is_within(module.name, ("flowdeck.cli",)) and is_within(one.name, ("flowdeck.tui",))
        if not is_within(one.name, ("flowdeck.tui.text",))
        and (module.name, one.name) != ("flowdeck.cli.console", "flowdeck.tui.app")
    ]
    assert wrong == []


OPENERS: dict[str, str] = {
    "engine/running/run_process/guard.py": "the null device",
    "engine/running/run_process/guarding.py": "what the kernel tells of this process's size",
    "engine/running/run_process/hosted.py": "the pipe of a guard",
    "store/files.py": "the one way to make and open what is in a store",
    "store/trust.py": "the maps of users; names beside a flow file",
    "store/connection.py": "databases, which SQLite opens; looked at by trust before",
    "store/opening.py": "a new database before it has its name; the package's own schema",
    "store/migrate.py": "a backup that has been made by files",
    "store/checkpoint.py": "a log's length, every 5 ms while it is written: without following links",
    "store/doctor.py": "what is in a store: looked at, not opened",
    "store/models.py": "the package's own schema, written by its author",
    "store/judging.py": "the kernel's word on processes",
    "store/lock_holder.py": "the kernel's list of locks",
    "engine/system/orphans.py": "the kernel's word on processes",
    "tui/hang_up.py": "the null device, in place of a terminal that is gone",
    "store/location.py": "the kernel's list of mounted file systems",
    "engine/authoring/loader.py": "flow files and what lies beside them",
    "engine/system/actors.py": "the kernel's word on who logged in",
    "engine/system/output_files.py": "the files commands write their outputs to",
    "engine/system/flow_files.py": "flow files and their folders",
    "engine/system/processes.py": "the kernel's word on processes",
    "engine/states/exits.py": "the kernel's word on memory",
    "engine/prefect1/visualize.py": "a picture where the user wants it",
    "engine/running/run_process/code_host.py": "the null device",
    "engine/running/run_process/nursery.py": "what stands beside a flow file",
    "engine/running/runners/fork_server.py": "the null device",
    "engine/running/runners/worker_main.py": "the kernel's counters of memory",
    "engine/sdk/harness.py": "a folder for a test's store",
    "engine/sdk/sh_output.py": "the file a command writes its outputs to, read",
    "engine/secrets/secret.py": "the person's folder of secrets",
    "cli/demo.py": "a folder for the demo's store",
    "cli/main.py": "the null device",
    "tui/actions.py": "the person's own keys",
}
"""Who opens, makes, lists, renames or removes files, and what these are; everybody else asks ``store.files``."""
OPENING_CALLS = {
    "open", "mkdir", "makedirs", "unlink", "remove", "removedirs", "rename", "renames", "replace", "link", "symlink",
    "rmdir", "listdir", "scandir", "walk", "chmod", "chown", "truncate", "mkfifo", "utime",
}  # fmt: skip
PATH_METHODS = {
    "read_bytes", "read_text", "write_bytes", "write_text", "mkdir", "touch", "unlink", "iterdir", "glob", "rglob",
    "symlink_to", "hardlink_to", "rmdir", "chmod",
}  # fmt: skip


def opens_files(call: ast.Call) -> bool:
    """Whether a call opens, makes or changes a file by its path; a descriptor handed on to ``open`` is no path."""
    function = call.func
    if isinstance(function, ast.Name):
        given = call.args[0] if call.args else None
        is_descriptor = isinstance(given, ast.Call) or (isinstance(given, ast.Name) and given.id == "descriptor")
        return function.id == "open" and not is_descriptor
    if not isinstance(function, ast.Attribute):
        return False
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if owner == "os":
        return function.attr in OPENING_CALLS
    if owner in ("shutil", "tempfile") or (owner, function.attr) in (("sqlite3", "connect"), ("io", "open")):
        return function.attr not in ("which", "get_terminal_size")
    return owner != "files" and function.attr in PATH_METHODS


def test_only_one_module_opens_files_of_a_store() -> None:
    """Who opens files at all is listed with what these are: below a store everything goes through ``store.files``."""
    used = {
        module.path: place(module, node.lineno)
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and opens_files(node)
    }
    assert [where for path, where in used.items() if path not in OPENERS] == []
    assert set(OPENERS) - set(used) == set(), "listed, but opens nothing any more"


def test_modules_are_named_for_what_they_hold() -> None:
    """No utils, helpers, manager or base: such a name says nothing and collects everything."""
    assert [module.path for module in modules().values() if NO_NAMES & set(module.name.split("."))] == []


MOST_LINES, MOST_LINES_OF_A_FUNCTION = 450, 60


def test_what_is_long_says_why() -> None:
    """A file over 450 lines, and a function over 60, has a docstring of its own or around it that gives the reason."""
    silent = []

    def look(module: Module, node: ast.AST, is_explained: bool) -> None:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            is_explained = is_explained or "Longer than most" in (ast.get_docstring(node) or "")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_explained:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_LINES_OF_A_FUNCTION:
                silent.append(f"{place(module, node.lineno)}: {node.name} has {length} lines")
        for child in ast.iter_child_nodes(node):
            look(module, child, is_explained)

    for module in modules().values():
        if len(lines(module)) > MOST_LINES and "Longer than most" not in (ast.get_docstring(module.tree) or ""):
            silent.append(f"{module.path}: {len(lines(module))} lines")
        look(module, module.tree, is_explained=False)
    assert silent == []


def test_every_module_says_what_it_is() -> None:
    """Each module begins with a docstring."""
    assert [module.path for module in modules().values() if not ast.get_docstring(module.tree)] == []


def test_broad_excepts_stand_at_borders_only() -> None:
    """``except Exception`` is for code that is not ours; where it stands is listed, and it never just passes."""
    unlisted, swallowed, unexplained, used = [], [], [], set()
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node):
                used.add(module.path)
                if module.path not in BROAD_EXCEPTS:
                    unlisted.append(place(module, node.lineno))
                told = any(isinstance(part, ast.Attribute) and part.attr == "exception" for part in ast.walk(node))
                if not told and not re.search(r"# noqa: BLE001 +(-|\() *\w", lines(module)[node.lineno - 1]):
                    unexplained.append(place(module, node.lineno))
                if all(isinstance(statement, ast.Pass) for statement in node.body):
                    swallowed.append(place(module, node.lineno))
    assert unlisted == []
    assert swallowed == []
    assert unexplained == [], "say on the line whose exception it is: # noqa: BLE001 - …"
    assert set(BROAD_EXCEPTS) - used == set(), "listed, but has no broad except any more"


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Catches anything and keeps it; what ends with a raise hands it on, in its own words or in ours."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(kind is None or getattr(kind, "id", "") in {"Exception", "BaseException"} for kind in kinds)
    return broad and not isinstance(handler.body[-1], ast.Raise)


def test_every_package_is_shipped() -> None:
    """Each folder of ours with an __init__.py is named in pyproject.toml, so that a wheel holds all of it."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    names = {module.name for module in modules().values() if module.is_package}
    assert listed == {*names, "flowdeck.examples"}


def test_the_examples_are_written_as_users_write() -> None:
    """An example imports the public names only: ``flowdeck`` and ``flowdeck.executors``, absolutely."""
    for path in (ROOT / "examples").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name}:{node.lineno}"
                if (node.module or "").split(".")[0] == "flowdeck":
                    assert node.module in {"flowdeck", "flowdeck.executors"}, f"{path.name}:{node.lineno}"


RUN_SIDE = {f"flowdeck.engine.{room}" for room in ("authoring", "running", "sdk", "prefect1")}
"""What a request to a run has no need of; a package is loaded with the first of its modules."""


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("from flowdeck import flow, task", {*HEAVY, "asyncio", "sqlite3", "logging", "multiprocessing"} - {"pickle"}),
        ("import flowdeck.cli.main", {*HEAVY, "asyncio"} - {"pickle"}),
        ("import flowdeck.store.reader", {*HEAVY, "asyncio", "flowdeck.engine"} - {"pickle"}),
        ("import flowdeck.engine.control.control", {*HEAVY, "asyncio", "flowdeck.engine.authoring.flows"} - {"pickle"}),
        (
            "from flowdeck.engine.control.control import Control, actor\nControl('.', actor=actor('cli')).close()",
            {*HEAVY, "asyncio", *RUN_SIDE} - {"pickle"},
        ),
        ("import flowdeck.cli.control", {*HEAVY, "asyncio", *RUN_SIDE} - {"pickle"}),
        ("import flowdeck.engine.daemon.daemon", {*HEAVY, "asyncio", *RUN_SIDE} - {"pickle"}),
        (
            "from flowdeck.tui import lean\nlean.import_textual()\nimport flowdeck.tui.console",
            {*HEAVY, *RUN_SIDE, "sqlite3", "textual.suggester", "flowdeck.tui.dialogs"} - {"textual", "rich", "pickle"},
        ),
    ],
)
def test_light_imports_stay_light(statement: str, unwanted: set[str]) -> None:
    """What must start fast loads nothing heavy, as seen in a fresh interpreter after the fact."""
    program = f"import json, sys\n{statement}\njson.dump(sorted(sys.modules), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert unwanted & set(json.loads(done.stdout)) == set()


MOST_MODULES_OF_A_SHORT_RUN = 125
"""Of ours, loaded by a script with one task. Each is a tenth of a millisecond of every such script's start, which is
mostly imports: what few runs do is imported by the function that does it, and not for the sake of types."""
NOT_FOR_A_SHORT_RUN = {"asyncio", "subprocess", "socket", "_hashlib", "multiprocessing", "flowdeck.engine.prefect1"}
"""Two milliseconds each, and more."""
ONE_TASK = """
import json, sys
from flowdeck import flow, task

@task
def add(a, b):
    return a + b

@flow
def short():
    return add(1, 2)

assert short() == 3
json.dump(sorted(sys.modules), sys.stdout)
"""


def test_a_short_run_loads_little(tmp_path: Path) -> None:
    """A script with one task pays for what that needs: neither heavy libraries nor rooms that few runs enter."""
    script = tmp_path / "short.py"
    script.write_text(ONE_TASK)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "FLOWDECK_STORE": str(tmp_path / "store")},
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout[done.stdout.index("[\"") :]))
    ours = {name for name in loaded if is_within(name, ("flowdeck",))} - {"flowdeck.store.numbered"}  # 3.12.0 only
    assert loaded & (NOT_FOR_A_SHORT_RUN | set(HEAVY)) == set()
    assert len(ours) <= MOST_MODULES_OF_A_SHORT_RUN, sorted(ours)


def generator() -> ModuleType:
    """docs/generate.py, which is a script beside the documents and no part of the package."""
    spec = importlib.util.spec_from_file_location("flowdeck_docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_documents_are_up_to_date() -> None:
    """docs/state-machine.md and the README's key table say what the code says; ``make docs`` writes them."""
    stale = [path.name for path, text in generator().wanted_files().items() if path.read_text("utf-8") != text]
    assert stale == []


def test_the_readme_names_tests_that_exist() -> None:
    """Each test that the README gives as evidence is there, and each of its promises names one."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", readme))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.M)}
    assert named - there == set()
    assert len(re.findall(r"^\| I\d+ \|.*`test_\w+` \|$", readme, re.M)) == 10


def test_the_readmes_files_exist() -> None:
    """Every file the README links to is there."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
