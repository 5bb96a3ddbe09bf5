"""``run FILE[:FLOW] --plan``: what a new run would run and what it would take from the cache, and why. Runs nothing.

What a run will be given is known only when it runs: the plan compares the file with the flow's last run, and says so.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..engine.encoding.code_hash import is_changed
from ..store.rows import CacheRow, RunRow, TaskRow
from ..store.tables import cache
from ..tui.text.times import ago, stamp
from .output import Output, one_line
from .table import Cell, Column

if TYPE_CHECKING:
    from ..engine.authoring.flows import Flow
    from ..engine.authoring.tasks import Task
    from ..store.reader import Reader

COLUMNS: Final = (
    Column("TASK", min_width=16), Column("CALLS", "right"), Column("WHAT"), Column("WHY", min_width=30),
)  # fmt: skip


class Line(NamedTuple):
    """The calls of one task that have one prospect."""

    key: str
    calls: int | None
    """How many the last run made; None when it made none."""
    what: str
    """``runs`` or ``cached``."""
    why: str


def show_plan(flow: Flow[..., Any], parameters: dict[str, Any], reader: Reader | None, out: Output) -> None:
    """Print the plan of a new run."""
    last = next(iter(reader.runs(flow=flow.name, limit=1)), None) if reader is not None else None
    lines = plan_lines(flow, parameters, reader, last)
    if out.as_json:
        out.json_object({
            "flow": flow.name, "compared_with": last.id if last is not None else None,
            "tasks": [{"task": line.key, "calls": line.calls, "what": line.what, "why": line.why} for line in lines],
        })  # fmt: skip
        return
    name, now_us = one_line(flow.name), time.time_ns() // 1000
    if last is None:
        out.line(f"a run of {name} would be its first: everything runs")
    else:
        ended = f"{last.state_name}{f' {ago(last.ended_at_us, now_us)}' if last.ended_at_us is not None else ''}"
        out.line(f"a new run of {name}, as far as it is known before, compared with its last, #{last.id} ({ended}):")
    out.table(COLUMNS, [
        [out.cell(line.key), Cell("" if line.calls is None else f"{line.calls:,}", "dim"),
         Cell(line.what, "green" if line.what == "cached" else ""), out.cell(line.why, "dim")]
        for line in lines
    ])  # fmt: skip
    if not lines:
        out.line(out.paint("no task is known of it", "dim"))
    if last is not None and last.state_type in ("FAILED", "CRASHED", "CANCELLED"):
        out.say(f"a retry of #{last.id} keeps what it finished: `flowdeck retry --plan {last.id}` shows it", "dim")


def plan_lines(
    flow: Flow[..., Any], parameters: dict[str, Any], reader: Reader | None, last: RunRow | None
) -> list[Line]:
    """One line for each task and prospect: those the last run called, then those the file has besides."""
    known = tasks_of(flow)
    counted: Counter[tuple[str, str, str]] = Counter()
    if reader is not None and last is not None:
        differ = _differing(last, parameters)
        for row in reader.tasks(last.id):
            what, why = _prospect(row, known.get(row.key), reader, last, differ)
            counted[row.key, what, why] += 1
    lines = [Line(key, calls, what, why) for (key, what, why), calls in counted.items()]
    called = {line.key for line in lines}
    for key, found in known.items():
        if key not in called:
            policy = getattr(found, "caching", None)
            why = "the last run did not call it" if last is not None else "nothing has run yet"
            lines.append(Line(key, None, "runs", f"{why}; cached by {policy.policy!r}" if policy is not None else why))
    return lines


def _prospect(
    row: TaskRow, found: Any, reader: Reader, last: RunRow, differ: list[str]
) -> tuple[str, str]:
    """What a new run would do with a call like this one."""
    if row.kind == "subflow":
        return "runs", "a flow within the run: its own tasks decide"
    if found is None:
        return "runs", "not found in the file by this name"
    task: Task[..., Any] = found
    if task.caching is None:
        return "runs", "it has no cache policy"
    parts = {type(part).__name__ for part in getattr(task.caching.policy, "policies", [task.caching.policy])}
    if "RunId" in parts:
        return "runs", "RUN_ID is part of its key: nothing is shared between runs"
    if task.caching.refresh:
        return "runs", "refresh_cache replaces what is cached"
    if "TaskSource" in parts and is_changed(row.code_hash, task.code_hash):
        return "runs", f"its code changed since #{last.id}"
    if "FlowParameters" in parts and differ:
        return "runs", f"FLOW_PARAMETERS is part of its key, and {', '.join(differ)} differs from #{last.id}"
    entry = _entry_behind(row, reader)
    if entry is None:
        return "runs", f"nothing is cached of it ({row.state_name} in #{last.id})"
    if entry.expires_at_us is not None and cache.is_stale(entry, time.time_ns() // 1000):
        return "runs", f"what was cached of it expired {stamp(entry.expires_at_us, time.time_ns() // 1000)}"
    # To the minute: many calls with entries of one run are one line.
    minute = stamp(entry.expires_at_us, time.time_ns() // 1000)[:16]
    until = f", expires {minute}" if entry.expires_at_us is not None else ""
    return "cached", f"from #{entry.run_id}{until}, if its key comes out the same"


def _entry_behind(row: TaskRow, reader: Reader) -> CacheRow | None:
    """The cache entry that a recorded call made or used."""
    run_id, seq = row.run_id, row.seq
    if row.state_name == "Cached" and row.cause:
        source = row.cause.removeprefix("cached from ").partition(",")[0]
        first, _, second = source.partition("/")
        if first.isdecimal() and second.isdecimal():
            run_id, seq = int(first), int(second)
    return next(iter(reader.cache_entries(run_id, seq)), None)


def _differing(last: RunRow, parameters: dict[str, Any]) -> list[str]:
    """Names of the parameters that are not those of the last run."""
    import json

    from ..engine.authoring.parameters import preview_json, to_json

    text = to_json(parameters)
    now, before = json.loads(text if text is not None else preview_json(parameters)), json.loads(last.parameters)
    return sorted(name for name in {*now, *before} if now.get(name) != before.get(name))


def tasks_of(flow: Flow[..., Any]) -> dict[str, Any]:
    """The tasks and flows that the flow's code names, and theirs, by key."""
    from ..engine.authoring.flows import Flow
    from ..engine.authoring.tasks import Task

    found: dict[str, Any] = {}
    waiting: list[Any] = [flow.fn]
    while waiting:
        fn = waiting.pop()
        for value in _named_in(fn):
            if isinstance(value, Task) and value.key not in found:
                found[value.key] = value
                waiting.append(value.fn)
            elif isinstance(value, Flow) and value is not flow and value.name not in found:
                found[value.name] = value
                waiting.append(value.fn)
    return found


def _named_in(fn: Any) -> list[Any]:
    """The global and enclosing values that a function's code names."""
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    code = getattr(fn, "__code__", None)
    if code is None:
        return []
    names: list[str] = []
    codes = [code]
    while codes:
        one = codes.pop()
        names += one.co_names
        codes += [constant for constant in one.co_consts if hasattr(constant, "co_names")]
    spaces = getattr(fn, "__globals__", {})
    cells = [cell.cell_contents for cell in (fn.__closure__ or ()) if _is_filled(cell)]
    return [spaces[name] for name in dict.fromkeys(names) if name in spaces] + cells


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


