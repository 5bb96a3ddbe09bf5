"""What a task may know of a call of it: whether it may begin, and what it is called by.

Protocols only. A task without rules of its own has none (``Task.rules`` is None): its calls begin once everything
before them has completed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol

from ..states.state import State


class CallOfTask(Protocol):
    """One call of a task within a run, as its task sees it."""

    @property
    def call_index(self) -> int:
        """How many calls of the task came before it in its scope."""

    @property
    def map_index(self) -> int | None:
        """Its place among the calls of one ``map``."""


class CallRules(Protocol):
    """Whether a call may begin, and what stands around its function. ``call`` is the living one, of ``running``."""

    def admission(self, call: Any) -> Generator[Any, Any, tuple[dict[str, Any], State | None]]:
        """Steps to (arguments, None), or to (arguments, the state in which the call ends without having begun)."""

    def admits_at_once(self, call: Any) -> bool:
        """Whether ``admission`` would let it start and do nothing else."""

    def around(self, fn: Callable[..., Any], call: Any) -> Callable[..., Any]:
        """The function with what stands around it; itself when there is nothing."""
