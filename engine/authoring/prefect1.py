"""Door from authoring to prefect1: what ``Flow("name")``, a subclass of ``Task`` and Prefect 1's options lead to.

Nothing of that style is loaded before one of them is met; who writes flows and tasks as functions never loads it,
but where a function is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..prefect1.flow import GraphFlow as GraphFlow
    from .flows import FunctionFlow
    from .tasks import Task


class TaskOptions(Protocol):
    """Prefect 1's options of tasks, in the engine's words."""

    def make_task(self, task: Task[..., Any], fn: Callable[..., Any] | None, given: dict[str, Any]) -> None:
        """Construct a task that is given such options, or whose function is its class's ``run``."""

    def changed_copy(self, task: Task[..., Any], changed: dict[str, Any]) -> Task[..., Any]:
        """A copy with some options changed; what a subclass keeps of its own stays."""

    def classic_value(self, task: Task[..., Any], name: str) -> Any:
        """An option of a task under Prefect 1's name of it."""


class Drawing(Protocol):
    """Figures of flows that are functions."""

    def mermaid_of(self, flow: FunctionFlow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The figure in mermaid's words."""


def task_options() -> TaskOptions:
    """Who knows Prefect 1's options of tasks."""
    from ..prefect1 import tasks

    return tasks


def drawing() -> Drawing:
    """Who draws flows that are functions."""
    from ..prefect1 import drawing as player

    return player


def graph_flow() -> type[GraphFlow]:
    """The class of flows that are drawn."""
    from ..prefect1.flow import GraphFlow

    return GraphFlow


def run_logger() -> Any:
    """What ``self.logger`` is in the ``run`` of a subclass of ``Task``."""
    from ..prefect1.context import context

    return context.logger
