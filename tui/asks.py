"""Asking ``engine.control``: one thread, so that no request ever holds up the screen. Imports nothing of Textual.

Requests are done in the order they were made; each ends in one ``Answer``, handed over on this thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..store.errors import FlowdeckError
from .actions import Verb

if TYPE_CHECKING:
    from ..engine.control.control import Control, Plan
    from ..store.rows import InputRow
    from ..store.tables.nodes import Node


class Answer(NamedTuple):
    """What became of a request."""

    ok: bool
    text: str
    run_id: int | None = None
    """The run it made, or the one it was about."""


class Planned(NamedTuple):
    """What retries of a run would run again, for its menu."""

    run_id: int
    node: Node | None
    label: str
    """Of the node; empty without one."""
    failed: Plan
    here: Plan | None
    everything: Plan


Tell = Callable[[Answer | Planned], None]


class Asker(threading.Thread):
    """Does what it is asked, one after the other."""

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        super().__init__(name="flowdeck-asker", daemon=True)
        self.folder = folder
        self.read_only = read_only
        self.tell: Tell = lambda _: None
        self.tell_questions: Callable[[int, list[InputRow]], None] = lambda _run_id, _questions: None
        self._asked: queue.SimpleQueue[Callable[[Control], Answer | Planned | None] | None] = queue.SimpleQueue()
        self._reap_waits = False

    def ask(self, verb: Verb, run_ids: list[int]) -> None:
        """Ask this of these runs."""
        self._asked.put(lambda control: _ask(control, verb, run_ids))

    def cancel(self, node: Node) -> None:
        """Cancel a part of a run tree."""

        def work(control: Control) -> Answer:
            outcome = control.cancel(node)
            return Answer(True, outcome.text, outcome.run_id)

        self._asked.put(work)

    def plan(self, run_id: int, node: Node | None, label: str) -> None:
        """What retries of the run, and from this part of it, would run again; the answer is ``Planned``."""

        def work(control: Control) -> Planned:
            here = control.plan_retry(node) if node is not None else None
            return Planned(run_id, node, label, control.plan_retry(run_id), here, control.plan_retry(run_id, "all"))

        self._asked.put(work)

    def retry(
        self, target: int | Node, kind: Literal["failed", "all"] = "failed", parameters: dict[str, Any] | None = None
    ) -> None:
        """Retry a run or from a part of it; with parameters as a new run."""

        def work(control: Control) -> Answer:
            outcome = control.retry(target, kind, parameters=parameters)
            return Answer(True, outcome.text, outcome.run_id)

        self._asked.put(work)

    def question(self, run_id: int) -> None:
        """Look what the run asks; ``tell_questions`` gets it."""

        def work(control: Control) -> None:
            self.tell_questions(run_id, control.questions(run_id))

        self._asked.put(work)

    def answer(self, run_id: int, values: Mapping[str, Any]) -> None:
        """Answer what the run asks; it goes on."""
        self._asked.put(lambda control: Answer(True, control.resume(run_id, dict(values)).text, run_id))

    def trigger(self, name: str, parameters: dict[str, Any]) -> None:
        """Run a deployment or flow now."""

        def work(control: Control) -> Answer:
            run_id = control.trigger(name, parameters)
            return Answer(True, f"#{run_id} {name} is on its way", run_id)

        self._asked.put(work)

    def set_schedule(self, schedule_id: int, active: bool) -> None:
        """Pause or resume a schedule."""

        def work(control: Control) -> Answer:
            if active:
                control.resume_schedule(schedule_id)
            else:
                control.pause_schedule(schedule_id)
            return Answer(True, f"the schedule is {'active again' if active else 'paused'}")

        self._asked.put(work)

    def set_limit_active(self, name: str, active: bool) -> None:
        """Pause or resume a concurrency limit."""

        def work(control: Control) -> Answer:
            outcome = control.resume_limit(name) if active else control.pause_limit(name)
            return Answer(True, outcome.text)

        self._asked.put(work)

    def reap(self) -> None:
        """No daemon is there to see it: note which runs' processes are gone."""
        if self._reap_waits or self.read_only:
            return
        self._reap_waits = True

        def work(control: Control) -> None:
            self._reap_waits = False
            control.reap()

        self._asked.put(work)

    def stop(self) -> None:
        """End the thread; does not wait for it."""
        self._asked.put(None)

    def run(self) -> None:
        """Do the requests."""
        control: Control | None = None
        while (work := self._asked.get()) is not None:
            try:
                if control is None:
                    control = self._open()
                answer = work(control)
            except FlowdeckError as error:
                answer = Answer(False, str(error))
            if answer is not None:
                self.tell(answer)
        if control is not None:
            control.close()

    def _open(self) -> Control:
        from ..engine.control import control as doors

        return doors.Control(self.folder, actor=doors.actor("console"), read_only=self.read_only)


def _ask(control: Control, verb: Verb, run_ids: list[int]) -> Answer:
    """Ask one thing of several runs; one answer for all."""
    texts: list[str] = []
    refused: list[str] = []
    for run_id in run_ids:
        try:
            texts.append(getattr(control, verb)(run_id).text)
        except FlowdeckError as error:
            refused.append(str(error))
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        done = f"{len(texts)} of {len(run_ids)} asked; " if texts else ""
        return Answer(False, f"{done}{refused[0]}{more}", run_ids[0] if len(run_ids) == 1 else None)
    if len(texts) == 1:
        return Answer(True, texts[0], run_ids[0])
    return Answer(True, f"{verb} asked of {len(texts)} runs")
