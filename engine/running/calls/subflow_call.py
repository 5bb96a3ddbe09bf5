"""A flow called within a run, as its parent knows it: a task run of kind ``subflow`` with a task's identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....store.rows import TaskRow
from ...encoding.code_hash import recorded_code_hash
from ...system.clock import now_us
from ..effects.interrupts import in_body
from .dependencies import collect_dependencies

if TYPE_CHECKING:
    from ...authoring.flows import Flow
    from .flow_run import FlowRun
    from .futures import Future
    from .journal import Found


class SubflowCall:
    """A flow called within a run: a task run of kind ``subflow`` in the parent, and a run of its own."""

    def __init__(
        self, parent: FlowRun, flow: Flow[Any, Any], scope_seq: int, given: tuple[dict[str, Any], Any]
    ) -> None:
        """``given``: its arguments as they were given, and what it is to wait for."""
        self.run = parent
        self.flow = flow
        self.key = self.name = flow.name
        self.scope_seq = scope_seq
        self.call_index = parent.next_call_index(scope_seq, self.key)
        self.seq, self.is_replay = parent.place_of(scope_seq, self.key, self.call_index)
        """Whether an earlier attempt made it, or may have, while its inputs are not known: as of a task's call."""
        self.is_placed = not self.is_replay
        self.in_order = self.is_replay and in_body()
        self.has_waited = False
        if self.call_index:
            self.name = f"{flow.name}[{self.call_index}]"
        self.given = given
        self.upstream: list[tuple[int, int, str]] = []
        self.created_at_us = now_us()
        self.inputs_hash: str | None = None
        self.child_run_id: int | None = None
        self.code_hash = recorded_code_hash(flow.fn)
        self.why_again: str | None = None
        """Why what an earlier attempt recorded of it does not count."""

    @property
    def fn(self) -> Callable[..., Any]:
        """What it calls."""
        return self.flow.fn

    def note_upstream(self) -> list[Future[Any]]:
        """Note where its arguments come from; the unfinished futures among them."""
        self.upstream, found = collect_dependencies(self.run, *self.given)
        return found

    def may_become(self, row: TaskRow) -> bool:  # noqa: ARG002 - a task's call asks
        """Whether its run is the one that is recorded in its place, of other inputs: what its tasks finished counts."""
        return self.in_order

    def be_placed(self, found: Found) -> None:
        """It is known which recorded call it is, or that it is a new one, which has the name of its place."""
        if found.recorded is not None and found.call_index != self.call_index:
            self.name = found.recorded.row.name
        self.seq, self.call_index, self.is_placed = found.seq, found.call_index, True
        self.is_replay = found.recorded is not None

    def begun_anew(self, why: str) -> None:
        """It is made in place of a recorded one; its row, which stands once its run does, says so."""
        self.why_again = why

    def row(self, state: tuple[str, str]) -> TaskRow:
        """The parent's row of this call."""
        return TaskRow(
            self.run.id, self.seq, self.key, self.scope_seq, self.call_index, None, None, self.name, "subflow",
            self.child_run_id, state[0], state[1], None, 1, self.run.attempt, self.created_at_us,
            self.created_at_us, None, None, None, None, "[]", self.inputs_hash, None,
            self.code_hash,
        )
