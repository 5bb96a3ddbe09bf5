"""Makes the pictures in this folder: the real console on real runs of the shipped examples.

    python screenshots/make.py [NAME…]

It starts a daemon on a store of its own, runs the examples, drives the console as a person would, and writes each
screen as PNG (drawn cell by cell, see ``png.py``) and as SVG. It takes about a minute. Needs the packages of the
extra ``dev`` and, on Debian, fonts-jetbrains-mono and fonts-dejavu-core.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import png

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowdeck.engine.control.control import Control
    from flowdeck.store.reader import Reader
    from flowdeck.store.rows import RunRow
    from flowdeck.tui.console import Console
    from textual.pilot import Pilot

FOLDER = Path(__file__).resolve().parent
WIDE, NARROW = (120, 34), (80, 24)
PATIENCE_SECONDS = 60.0


class Stage(NamedTuple):
    """What the pictures are taken of."""

    folder: Path
    reader: Reader
    control: Control


class Shot(NamedTuple):
    """One picture: where the console starts, what is pressed, what must be seen before it is taken."""

    name: str
    size: tuple[int, int]
    start: Callable[[Stage], str]
    keys: tuple[str, ...]
    sees: str
    """A regular expression."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that real runs do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it never came to this: {what}")
        time.sleep(0.05)


@contextmanager
def stage() -> Iterator[Stage]:
    """A store of its own with a daemon on a copy of the examples; all of it goes away."""
    from flowdeck import examples
    from flowdeck.cli.daemon import start_daemon, stop_daemon
    from flowdeck.engine.control.control import Control
    from flowdeck.store.reader import Reader

    with tempfile.TemporaryDirectory(prefix="flowdeck-", ignore_cleanup_errors=True) as parent:
        folder, flows = Path(parent) / "store", Path(parent) / "flows"
        shutil.copytree(Path(examples.__file__).parent, flows, ignore=shutil.ignore_patterns("__*"))
        shutil.copy(FOLDER / "pipeline.py", flows)
        os.environ["FLOWDECK_STORE"] = str(folder)
        process = start_daemon(folder, [str(flows)])
        try:
            with Reader(folder) as reader:
                control = Control(folder, actor="ada@forge via cli")
                try:
                    yield Stage(folder, reader, control)
                except TimeoutError:
                    for run in reader.runs():
                        print(f"#{run.id} {run.flow_name} {run.state_name}: {run.cause}", file=sys.stderr)
                    raise
                for run in reader.live_runs():
                    if run.root_id is None:
                        control.cancel(run.id)
                until(lambda: not any(lease.run_id for lease in reader.leases()), "every run has ended")
        finally:
            stop_daemon(folder)
            process.wait()


def trigger(at: Stage, flow: str, **parameters: Any) -> int:
    """Has the daemon run this example."""
    deployment = next(each for each in at.reader.deployments() if each.flow_name == flow)
    return at.control.trigger(deployment.name, parameters)


def make_history(at: Stage) -> None:
    """Some runs that have ended, well and badly, and one that was cancelled."""
    from flowdeck.examples import EXPECTED

    wanted = {*EXPECTED, "shop-night", "shop-prices"}
    until(lambda: {each.flow_name for each in at.reader.deployments()} >= wanted, "every example is known")
    made = [trigger(at, "tour", seconds=1.0), trigger(at, "ETL Workflow")]
    made += [trigger(at, "weather"), trigger(at, "weather", source="seattle-2016.csv"), trigger(at, "box-health")]
    dropped = trigger(at, "tour")
    until(lambda: _completed(at, dropped) >= 8, "a tour is under way")
    at.control.cancel(dropped)
    until(lambda: all(_ended(at, run) for run in (*made, dropped)), "the first runs have ended")
    made = [trigger(at, flow) for flow in ("weather", "ETL Workflow", "weather", "box-health", "ETL Workflow")]
    until(lambda: all(_ended(at, run) for run in made), "the next runs have ended")


def start_live(at: Stage) -> None:
    """A tour that is paused, and a pipeline that goes on."""
    paused = trigger(at, "tour", seconds=1.0)
    until(lambda: _completed(at, paused) >= 1, "a tour is under way")
    at.control.pause(paused)
    until(lambda: (at.reader.run(paused) or _missing()).state_type == "PAUSED", "it is paused")
    for name, slots in (("tag:supplier-api", 4), ("warehouse", 1), ("flow:shop-night", 2)):
        at.control.set_limit(name, slots)
    trigger(at, "shop-prices")
    night = trigger(at, "shop-night")
    until(lambda: _completed(at, night) >= 16, "the pipeline trains its models")


def _missing() -> RunRow:
    raise LookupError("a run that was triggered is not in the store")


def _ended(at: Stage, run_id: int) -> bool:
    run = at.reader.run(run_id)
    return run is not None and run.ended_at_us is not None


def _completed(at: Stage, run_id: int) -> int:
    """Tasks that are done, those of its subflows included."""
    return sum(
        count
        for each in (run_id, *(child.id for child in at.reader.children(run_id)))
        for (state_type, _), count in at.reader.task_counts(each).items()
        if state_type == "COMPLETED"
    )


async def take(at: Stage, shots: list[Shot]) -> None:
    """Takes the pictures, one console each."""
    from flowdeck.tui.asks import Asker
    from flowdeck.tui.console import Console
    from flowdeck.tui.feed.thread import Feed

    for shot in shots:
        feed, asker = Feed(at.folder), Asker(at.folder, read_only=False)
        feed.start()
        asker.start()
        try:
            app = Console(feed, asker, start=shot.start(at))
            async with app.run_test(size=shot.size) as pilot:
                await _pose(pilot, app, shot)
                _write(app, shot)
        finally:
            feed.stop()
            asker.stop()
            feed.join(2.0)


async def _pose(pilot: Pilot[None], app: Console, shot: Shot) -> None:
    for key in shot.keys:
        await _come_to_rest(pilot, app)
        await pilot.press(key)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not re.search(shot.sees, _text(app)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{shot.name}: {shot.sees!r} never came into sight; this did:\n{_text(app)}")
        await pilot.pause(0.02)
    await pilot.pause(0.1)


async def _come_to_rest(pilot: Pilot[None], app: Console) -> None:
    """Until there is something, and two looks a moment apart show the same; what runs never rests for long."""
    for _ in range(10):
        before = _text(app)
        await pilot.pause(0.05)
        await app.workers.wait_for_complete()
        if _text(app) == before and len(before.split()) > 20:
            return


def _text(app: Console) -> str:
    return "\n".join("".join(part.text for part in strip) for strip in app.screen._compositor.render_strips())


def _write(app: Console, shot: Shot) -> None:
    png.save(app.screen._compositor.render_strips(), shot.size[0], FOLDER / f"{shot.name}.png")
    (FOLDER / f"{shot.name}.svg").write_text(app.export_screenshot(title="flowdeck"), encoding="utf-8")
    print(f"{shot.name}.png  {shot.name}.svg", flush=True)


def run_of(flow: str, state: str = "") -> Callable[[Stage], str]:
    """The last run of a flow, in some state when one is given."""
    return lambda at: "run " + str(next(
        run.id for run in at.reader.runs(flow=flow) if run.state_type == state or (not state and run.started_at_us)
    ))  # fmt: skip


def new_tour(at: Stage) -> str:
    """A tour that begins only now: its parcels are weighed within seconds."""
    return f"run {trigger(at, 'tour', seconds=60.0, count=990)}"


def runs_list(_: Stage) -> str:
    """The list of runs."""
    return "runs"


def limits_list(_: Stage) -> str:
    """Limits and who waits for them."""
    return "limits"


SHOTS = [
    Shot("tree", WIDE, new_tour, (), r"weigh ×990.* [2-8]\d\d/990"),
    Shot("graph", WIDE, run_of("shop-night"), ("2",), r"train\[×48\]"),
    Shot("console", WIDE, runs_list, (), "shop-night"),
    Shot("narrow", NARROW, run_of("tour", "RUNNING"), (), "weigh"),
    Shot("cancel", WIDE, run_of("tour", "RUNNING"), ("x",), "No, leave it as it is"),
    Shot("logs", WIDE, run_of("tour", "RUNNING"), ("3",), "round 2[0-9]"),
    Shot("graph-weather", WIDE, run_of("weather", "COMPLETED"), ("2",), "sum_up"),
    Shot("search", WIDE, run_of("tour", "FAILED"), ("3", "g", "slash", *"round", "enter"), r"\d hits"),
    Shot("flows", WIDE, runs_list, ("F",), "weather"),
    Shot("limits", WIDE, limits_list, (), "3rd in line"),
    Shot("help", WIDE, runs_list, ("question_mark",), "Keys: runs"),
]


async def main(names: list[str]) -> None:
    """Make the pictures with these names, or all."""
    png.find_fonts()
    with stage() as at:
        make_history(at)
        start_live(at)
        await take(at, [shot for shot in SHOTS if not names or shot.name in names])




if __name__ == "__main__":
    os.environ["TEXTUAL_ANIMATIONS"] = "none"  # read once, when Textual is imported
    try:
        asyncio.run(main(sys.argv[1:]))
    except png.FontsMissing as error:
        sys.exit(str(error))
