"""Prefect 1's states: a tree of classes with ``is_successful()`` and colours, where ``result`` is a value.

They are how the states of a ``with Flow`` run are shown, and what its state handlers get and may return. The engine
itself knows the plain ``State`` only: ``from_engine`` and ``plain`` go between the two.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..states.state import State, aggregate

__all__ = [
    "Cached", "Cancelled", "Cancelling", "Failed", "Finished", "FlowState", "Looped", "Mapped", "Paused", "Pending",
    "Queued", "Resume", "Retrying", "Running", "Scheduled", "Skipped", "Submitted", "Success", "TimedOut",
    "TriggerFailed", "ValidationFailed",
]


class FlowState(State):
    """A state as Prefect 1 shows it. Of a flow ``result`` is ``{task: state}``; of a mapped task a list."""

    color: ClassVar[str] = "#000000"
    kind: ClassVar[tuple[str, str]] = ("PENDING", "Pending")

    def __init__(
        self, message: str | None = None, result: Any = None, *, map_states: list[FlowState] | None = None,
        **_more: Any,
    ) -> None:
        error = result if isinstance(result, BaseException) else None
        super().__init__(*self.kind, message, data=result, error=error)
        self.map_states = map_states

    @property
    def result(self) -> Any:  # Prefect 3's method is Prefect 1's attribute
        """The value, the exception of what failed, or ``{task: state}`` of a flow."""
        return self.data

    def plain(self) -> State:
        """The same as the engine has it."""
        return State(self.type, self.name, self.message, data=self.data, error=self.error)

    def is_successful(self) -> bool:
        """Ended as it should, also by being skipped."""
        return isinstance(self, Success)

    def is_failed(self) -> bool:
        """Failed in any way: also crashed, or not started because its trigger was not met."""
        return isinstance(self, Failed)

    def is_skipped(self) -> bool:
        """Not run because something before it was not, or because it asked to be skipped."""
        return isinstance(self, Skipped)

    def is_finished(self) -> bool:
        """Nothing more happens."""
        return isinstance(self, Finished)

    def is_mapped(self) -> bool:
        """Whether it sums up a mapped group."""
        return self.map_states is not None

    def is_cached(self) -> bool:
        """Not run: an earlier result was taken."""
        return isinstance(self, Cached)

    def is_looped(self) -> bool:
        """Runs again with what it gave."""
        return isinstance(self, Looped)

    def is_retrying(self) -> bool:
        """Waits for its next attempt."""
        return isinstance(self, Retrying)

    def is_pending(self) -> bool:
        """Has not begun."""
        return isinstance(self, Pending)

    def is_scheduled(self) -> bool:
        """Waits for its time."""
        return isinstance(self, Scheduled)

    def is_running(self) -> bool:
        """User code runs."""
        return isinstance(self, Running)

    def is_submitted(self) -> bool:
        """Given to an executor."""
        return isinstance(self, Submitted)

    def is_queued(self) -> bool:
        """Waits for a place."""
        return isinstance(self, Queued)

    def is_meta_state(self) -> bool:
        """Says where it waits, not how far it is."""
        return isinstance(self, (Submitted, Queued))

    def is_cancelled(self) -> bool:
        """Ended because somebody asked; not by being skipped."""
        return isinstance(self, Cancelled)

    def __eq__(self, other: object) -> bool:
        return self is other  # in a set of states each counts

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: "{self.message}">' if self.message else f"<{type(self).__name__}>"


class Pending(FlowState):
    """Has not begun."""

    color = "#d3d3d3"


class Scheduled(Pending):
    """Waits for its time."""

    color = "#ffab00"
    kind = ("SCHEDULED", "Scheduled")


class Paused(Scheduled):
    """Held until a person says so."""

    color = "#cfd8dc"
    kind = ("PAUSED", "Paused")


class Resume(Scheduled):
    """Goes on after a pause."""

    color = "#fb8532"


class Retrying(Scheduled):
    """Waits for its next attempt."""

    color = "#ffab00"
    kind = ("SCHEDULED", "AwaitingRetry")


class Submitted(FlowState):
    """Given to an executor."""

    color = "#ffab00"


class Queued(FlowState):
    """Waits for a place."""

    color = "#ffab00"
    kind = ("SCHEDULED", "AwaitingSlot")


class Running(FlowState):
    """User code runs."""

    color = "#3d67ff"
    kind = ("RUNNING", "Running")


class Cancelling(Running):
    """Told to end."""

    color = "#bdbdbd"
    kind = ("CANCELLING", "Cancelling")


class Finished(FlowState):
    """Nothing more happens."""

    color = "#ba55d3"
    kind = ("COMPLETED", "Completed")


class Looped(Finished):
    """Runs again with what it gave."""

    color = "#003ccb"
    kind = ("RUNNING", "Looped")


class Success(Finished):
    """Ended as it should."""

    color = "#28a745"


class Cached(Success):
    """Not run: an earlier result was taken."""

    color = "#34d058"
    kind = ("COMPLETED", "Cached")


class Mapped(Success):
    """A mapped group whose every run succeeded."""



class Skipped(Success):
    """Not run, and that counts as success."""

    color = "#62757f"
    kind = ("CANCELLED", "Skipped")


class Cancelled(Finished):
    """Ended because somebody asked."""

    color = "#757575"
    kind = ("CANCELLED", "Cancelled")


class Failed(Finished):
    """Did not end as it should."""

    color = "#eb0000"
    kind = ("FAILED", "Failed")


class TimedOut(Failed):
    """Took too long."""

    color = "#cf5c36"
    kind = ("FAILED", "TimedOut")


class TriggerFailed(Failed):
    """Not run: its trigger was not met."""

    color = "#f42c04"
    kind = ("FAILED", "TriggerFailed")


class ValidationFailed(Failed):
    """Its result was not as it should be."""

    color = "#f42c04"
    kind = ("FAILED", "ValidationFailed")


_BY_TYPE: dict[str, type[FlowState]] = {
    "COMPLETED": Success, "CANCELLED": Cancelled, "FAILED": Failed, "CRASHED": Failed, "RUNNING": Running,
    "PENDING": Pending, "SCHEDULED": Scheduled, "PAUSED": Paused, "CANCELLING": Cancelling,
}
_BY_NAME: dict[str, type[FlowState]] = {
    "Cached": Cached, "Skipped": Skipped, "TimedOut": TimedOut, "TriggerFailed": TriggerFailed,
    "ValidationFailed": ValidationFailed, "AwaitingRetry": Retrying, "NotReady": TriggerFailed, "Looped": Looped,
    "AwaitingSlot": Queued,
}


def from_engine(state: State, result: Any = None) -> FlowState:
    """A state of the engine as Prefect 1 shows it, with its value or exception unless ``result`` is given."""
    kind = _BY_NAME.get(state.name) or _BY_TYPE[state.type]
    if result is None:
        result = state.plain().result(raise_on_failure=False) if state.is_final() else state.data
    shown = kind(state.message, result)
    shown.type, shown.name, shown.error = state.type, state.name, state.error
    return shown


def of_group(states: list[FlowState]) -> FlowState:
    """One state for a mapped group: failed when one of it failed, so that nothing is hidden."""
    together = aggregate([state.plain() for state in states])
    kind = Mapped if together.type == "COMPLETED" else _BY_TYPE[together.type]
    shown = kind(together.message if kind is not Mapped else None, [state.result for state in states])
    shown.error = together.error
    shown.map_states = states
    return shown


for _kind in tuple(vars().values()):
    if isinstance(_kind, type) and _kind.__module__ == __name__:
        _kind.__module__ = "flowdeck.state"  # what is stored names it there, wherever this file stands
