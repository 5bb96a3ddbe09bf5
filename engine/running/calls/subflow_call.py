"""A flow called within a run, as its parent knows it: a task run of kind ``subflow`` with a task's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....store.rows import TaskRow
from ...encoding.code_hash import recorded_code_hash
from ...system.clock import now_us

if TYPE_CHECKING:
    from ...authoring.flows import Flow
    from .flow_run import FlowRun


class SubflowCall:
    """A flow called within a run: a task run of kind ``subflow`` in the parent, and a run of its own."""

    def __init__(
        self, parent: FlowRun, flow: Flow[Any, Any], scope_seq: int, upstream: list[tuple[int, int, str]]
    ) -> None:
        self.run = parent
        self.flow = flow
        self.key = self.name = flow.name
        self.scope_seq = scope_seq
        self.call_index = parent.next_call_index(scope_seq, self.key)
        self.seq, _ = parent.place_of(scope_seq, self.key, self.call_index)
        if self.call_index:
            self.name = f"{flow.name}[{self.call_index}]"
        self.upstream = upstream
        self.created_at_us = now_us()
        self.inputs_hash: str | None = None
        self.child_run_id: int | None = None
        self.code_hash = recorded_code_hash(flow.fn)
        self.why_again: str | None = None
        """Why what an earlier attempt recorded of it does not count."""

    def row(self, state: tuple[str, str]) -> TaskRow:
        """The parent's row of this call."""
        return TaskRow(
            self.run.id, self.seq, self.key, self.scope_seq, self.call_index, None, None, self.name, "subflow",
            self.child_run_id, state[0], state[1], None, 1, self.run.attempt, self.created_at_us,
            self.created_at_us, None, None, None, None, "[]", self.inputs_hash, None,
            self.code_hash,
        )
