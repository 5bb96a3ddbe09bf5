"""``resource_manager``: something set up before the tasks of a block and cleaned up after them, come what may.

The manager and the resource are made anew whenever the run continues in another process: a connection that died with
the old one is of no use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..authoring.tasks import Task
from .control_flow import Block
from .graph import Graph, TaskNode, graph_for
from .signals import SKIP

__all__ = ["ResourceManager", "resource_manager"]


def resource_cleanup_trigger(upstream_states: dict[Any, Any]) -> bool:
    """Run however the tasks of the block ended, if there is a resource to clean up."""
    for edge, state in upstream_states.items():
        what = {"mgr": "Resource manager init", "resource": "Resource manager setup"}.get(edge.key)
        if what is not None and (state.is_skipped() or not state.is_successful()):
            raise SKIP(f"{what} {'skipped' if state.is_skipped() else 'failed'}")
    return True


def _set_up(mgr: Any) -> Any:
    return mgr.setup()


def _clean_up(mgr: Any, resource: Any) -> None:
    mgr.cleanup(resource)


class ResourceContext(Block):
    """One use of a resource: its block."""

    def __init__(self, graph: Graph, setup: TaskNode, cleanup: TaskNode) -> None:
        super().__init__()
        self._graph = graph
        self.setup_task = setup
        self.cleanup_task = cleanup

    def __enter__(self) -> Any:
        self.open(self._graph)
        return self.setup_task

    def __exit__(self, *_: object) -> None:
        self.close()
        first, last = self.first(), self.last()
        for node in first:
            if self.setup_task not in set(self.graph.upstream(node)):
                self.graph.add_edge(self.setup_task, node)
        for node in last:
            self.graph.add_edge(node, self.cleanup_task)


class ResourceManager:
    """Called within a flow, it draws the tasks that make, set up and clean up a resource."""

    def __init__(
        self, resource_class: Callable[..., Any], name: str | None = None,
        init_task_kwargs: dict[str, Any] | None = None, setup_task_kwargs: dict[str, Any] | None = None,
        cleanup_task_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.resource_class = resource_class
        self.name = name or getattr(resource_class, "__name__", "resource")
        self._init = {"name": self.name, "persist_result": False, **(init_task_kwargs or {})}
        self._setup = {"name": f"{self.name}.setup", "persist_result": False, **(setup_task_kwargs or {})}
        self._cleanup = {
            "name": f"{self.name}.cleanup", "trigger": resource_cleanup_trigger, "skip_on_upstream_skip": False,
            **(cleanup_task_kwargs or {}),
        }  # fmt: skip

    def __call__(self, *args: Any, flow: Any = None, **kwargs: Any) -> ResourceContext:
        """The block to use the resource in."""
        graph = graph_for(self, flow=flow)
        made = graph.add_call(Task(self.resource_class, **self._init), args, kwargs)
        setup = graph.add_call(Task(_set_up, **self._setup), (made,), {})
        cleanup = graph.add_call(Task(_clean_up, **self._cleanup), (made, setup), {})
        cleanup.task.__dict__["flowdeck_cleans_up"] = True
        return ResourceContext(graph, setup, cleanup)


def resource_manager(resource_class: Any = None, **options: Any) -> Any:
    """Decorator: a class with ``setup()`` and ``cleanup(resource)`` becomes a block of a flow.

    ``with Database(url) as connection: load(connection)``.
    """
    if resource_class is not None:
        return ResourceManager(resource_class, **options)
    return lambda found: ResourceManager(found, **options)
