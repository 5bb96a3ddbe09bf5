"""Prefect 1's style: ``with Flow("ETL") as flow`` draws a graph of task calls, ``flow.run()`` runs it.

Inside the block a call of a task runs nothing: it adds a node. Running goes through the one engine path: the graph is
a flow whose function walks the nodes and submits our tasks with futures. Running while the block is open is a
RuntimeError, wrong parameters and cycles are ValueErrors, and a flow that fails is a returned state, never an
exception.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from contextvars import Token
from copy import copy
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Self

from .. import context
from ..authoring.authored import option_names
from ..authoring.flows import Flow, FunctionFlow
from ..authoring.options import check_options
from ..errors import ParameterError, UsageError
from .context import context as run_context
from .flow_function import given_and_collected, walk_function
from .graph import Graph, TaskNode
from .parameters import GraphParameters, Node
from .state_handlers import on_failure_handler
from .states import FlowState, Pending, from_engine
from .wiring import Edge

__all__ = ["FlowState", "GraphFlow"]

_MEANINGLESS = ("environment", "labels", "result", "run_config", "storage")
_NOT_KEPT = {
    "return_tasks": "every task's state is in the result",
    "runner_cls": "there is one engine",
    "task_runner_state_handlers": "give the tasks state_handlers",
    "state": "use retry to go on from an earlier run",
    "task_contexts": "use context={…} for all tasks",
}


class GraphFlow(Flow[..., Any]):
    """What ``Flow("name")`` makes: a graph of task calls, run as one flow."""

    def __init__(
        self,
        name: str,
        schedule: Any = None,
        executor: Any = None,
        *,
        tasks: Iterable[Any] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[Any] | None = None,
        state_handlers: Iterable[Callable[..., Any]] | None = None,
        on_failure: Any = (),
        validate: bool | None = None,
        terminal_state_handler: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        if not name:
            raise ValueError("a flow needs a name: Flow(\"ETL\")")
        ignored = [option for option in _MEANINGLESS if options.pop(option, None) is not None]
        if ignored:
            _warn_once(name, tuple(ignored))
        check_options(f"flow {name!r}", options, {*option_names(FunctionFlow), *_MEANINGLESS})
        self.graph = Graph(name)
        self._opened: list[Token[Any]] = []
        self._reference: list[Node] | None = None
        self._declared: GraphParameters | None = None
        self.terminal_state_handler = terminal_state_handler
        self.state_handlers = list(state_handlers or ())
        if callable(on_failure):
            self.state_handlers.append(on_failure_handler(on_failure))
            on_failure = ()
        self._schedule = schedule
        super().__init__(
            walk_function(self.graph, self, name), name=name, schedule=schedule, on_failure=on_failure or (), **options
        )
        self.executor = executor
        for task in tasks or ():
            self.add_task(task)
        for edge in edges or ():
            self.add_edge(*edge)
        if reference_tasks:
            self.set_reference_tasks(reference_tasks)
        if validate:
            self.validate()

    # -- drawing -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._opened:
            raise RuntimeError(f"the block of flow {self.name!r} is open already")
        self._opened.append(context.current_graph.set(self.graph))
        return self

    def __exit__(self, *exception: object) -> None:
        context.current_graph.reset(self._opened.pop())

    def add_task(self, task: Any) -> Any:
        """Put a task into the flow without calling it; returns it."""
        return self.graph.add_task(task).shown

    def add_edge(
        self, upstream_task: Any, downstream_task: Any, key: str | None = None, mapped: bool = False,
        flattened: bool = False, validate: bool | None = None,
    ) -> Edge:
        """Run ``upstream_task`` before ``downstream_task``, whose argument ``key`` it then feeds."""
        edge = self.graph.add_edge(upstream_task, downstream_task, key, mapped, flattened)
        if validate:
            self.validate()
        return edge

    def chain(self, *tasks: Any, validate: bool | None = None) -> list[Edge]:
        """Run these tasks one after the other."""
        return [self.add_edge(first, second, validate=validate) for first, second in pairwise(tasks)]

    def set_dependencies(
        self, task: Any, upstream_tasks: Iterable[Any] | None = None, downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: dict[str, Any] | None = None, mapped: bool = False, validate: bool | None = None,
    ) -> None:
        """Several edges of one task at once."""
        self.graph.set_dependencies(task, upstream_tasks, downstream_tasks, keyword_tasks, mapped)
        if validate:
            self.validate()

    def set_reference_tasks(self, tasks: Iterable[Any]) -> None:
        """Let the states of these tasks decide the flow's, instead of those of the last ones."""
        self._reference = [self.graph.find(task) for task in tasks] or None

    def update(self, flow: GraphFlow, merge_parameters: bool = False, validate: bool | None = None) -> None:
        """Add the tasks and edges of another flow."""
        self.graph.take_over(flow.graph, merge_parameters=merge_parameters)
        if validate:
            self.validate()

    def replace(self, old: Any, new: Any, validate: bool | None = None) -> None:
        """Put a task, a parameter or a value in the place of a task."""
        was = self.graph.find(old)
        self.graph.replace(old, new)
        if self._reference is not None:
            named = [new if node is was else node for node in self._reference]
            self._reference = [self.graph.find(one) for one in named if not isinstance(one, Node) or one is not was]
        if validate:
            self.validate()

    def copy(self) -> GraphFlow:
        """A flow of the same tasks, to be changed on its own."""
        made = GraphFlow(self.name, **self._own_options())
        made.graph = self.graph.copy(self.name)
        made._reference = list(self._reference) if self._reference is not None else None
        made.fn = walk_function(made.graph, made, self.name, self.fn.__module__)
        return made

    def with_options(self, **options: Any) -> GraphFlow:
        """A copy with some options changed."""
        made = self.copy()
        merged = {**self._own_options(), **options}
        graph, reference = made.graph, made._reference
        GraphFlow.__init__(made, merged.pop("name", self.name), **merged)
        made.graph, made._reference = graph, reference
        made.fn = walk_function(graph, made, made.name, self.fn.__module__)
        return made

    def _own_options(self) -> dict[str, Any]:
        options = {option: value for option, value in {**self._options, **self.hooks}.items() if option != "name"}
        del options["schedules"]
        options |= {"schedule": self._schedule, "executor": options.pop("task_runner", None)}
        return options | {
            "state_handlers": self.state_handlers, "terminal_state_handler": self.terminal_state_handler,
        }  # fmt: skip

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> set[Any]:
        """Every task, parameters included."""
        return {node.shown for node in self.graph.nodes}

    @property
    def edges(self) -> set[Edge]:
        """Every edge."""
        return {_shown(edge) for edge in self.graph.edges()}

    @property
    def slugs(self) -> dict[Any, str]:
        """What each task is called in this flow and no other task is."""
        return {node.shown: getattr(node, "slug", None) or node.name for node in self.graph.nodes}

    def sorted_tasks(self, root_tasks: Iterable[Any] | None = None) -> tuple[Any, ...]:
        """Every task (or those at and after the roots) after what it needs; a cycle raises ``ValueError``."""
        order = self.graph.in_order()
        if root_tasks is not None:
            reached = {self.graph.find(task) for task in root_tasks}
            for node in order:
                if any(one in reached for one in self.graph.upstream(node)):
                    reached.add(node)
            order = [node for node in order if node in reached]
        return tuple(node.shown for node in order)

    def root_tasks(self) -> set[Any]:
        """The tasks nothing comes before."""
        return {node.shown for node in self.graph.roots()}

    def terminal_tasks(self) -> set[Any]:
        """The tasks nothing comes after."""
        return {node.shown for node in self.graph.terminal()}

    def reference_tasks(self) -> set[Any]:
        """The tasks whose states decide the flow's: the terminal ones, unless set otherwise."""
        return {node.shown for node in self.deciding_nodes()}

    def deciding_nodes(self) -> list[Node]:
        """The reference tasks' nodes. What a resource's clean-up waits for decides as well: it would hide failures."""
        if self._reference is not None:
            return self._reference
        found: dict[Node, None] = {}
        for node in self.graph.terminal():
            found[node] = None
            if isinstance(node, TaskNode) and node.task.__dict__.get("flowdeck_cleans_up"):
                found.update(dict.fromkeys(self.graph.upstream(node)))
        return list(found)

    def get_tasks(
        self, name: str | None = None, slug: str | None = None, tags: Iterable[str] | None = None,
        task_type: type | None = None,
    ) -> list[Any]:
        """The tasks that fit everything that is asked, in order."""
        found = []
        for node in self.graph.in_order():
            names = (node.name, getattr(node, "base_name", node.name))
            kind = node.task if isinstance(node, TaskNode) else node
            if (
                (name is None or name in names)
                and (slug is None or slug == (getattr(node, "slug", None) or node.name))
                and (tags is None or set(tags) <= set(getattr(node, "tags", ())))
                and (task_type is None or isinstance(kind, task_type))
            ):
                found.append(node.shown)
        return found

    def upstream_tasks(self, task: Any) -> set[Any]:
        """The tasks right before this one."""
        return {edge.upstream_task for edge in self.edges_to(task)}

    def downstream_tasks(self, task: Any) -> set[Any]:
        """The tasks right after this one."""
        return {edge.downstream_task for edge in self.edges_from(task)}

    def edges_to(self, task: Any) -> set[Edge]:
        """The edges that lead to this task."""
        return {_shown(edge) for edge in self.graph.edges_to(self.graph.find(task))}

    def edges_from(self, task: Any) -> set[Edge]:
        """The edges that lead away from this task."""
        node = self.graph.find(task)
        return {_shown(edge) for edge in self.graph.edges() if edge.upstream_task is node}

    def all_upstream_edges(self) -> dict[Any, set[Edge]]:
        """For each task the edges that lead to it."""
        return {node.shown: self.edges_to(node) for node in self.graph.nodes}

    def all_downstream_edges(self) -> dict[Any, set[Edge]]:
        """For each task the edges that lead away from it."""
        return {node.shown: self.edges_from(node) for node in self.graph.nodes}

    def validate(self) -> None:
        """Raise ``ValueError`` naming the tasks of a cycle, or a reference task that is not there."""
        self.graph.in_order()
        for node in self._reference or ():
            self.graph.find(node)

    def serialize(self) -> dict[str, Any]:
        """The flow as JSON values: what it holds and how it is wired, without its code."""
        nodes = self.graph.in_order()
        return {
            "name": self.name,
            "parameters": [
                {"name": one.name, "required": one.required, "default": None if one.required else one.default}
                for one in self.graph.parameters()
            ],
            "tasks": [
                {"slug": self.slugs[node.shown], "name": node.name, "tags": sorted(getattr(node, "tags", ())),
                 "mapped": self.graph.nodes[node].mapped}
                for node in nodes if isinstance(node, TaskNode)
            ],
            "edges": [
                {"upstream": edge.upstream_task.name, "downstream": edge.downstream_task.name, "key": edge.key,
                 "mapped": edge.mapped, "flattened": edge.flattened}
                for edge in self.graph.edges()
            ],
            "reference_tasks": sorted(node.name for node in self.deciding_nodes()),
            "schedules": [schedule.describe() for schedule in self.schedules],
        }  # fmt: skip

    def visualize(
        self, flow_state: FlowState | None = None, filename: str | None = None, format: str | None = None,  # noqa: A002
        horizontal: bool = False,
    ) -> str:
        """The graph as ``text``, ``mermaid`` or ``dot``, coloured by ``flow_state``; also written to ``filename``."""
        from .visualize import drawn

        return drawn(self.graph, flow_state, filename, format, horizontal=horizontal)

    def generate_mermaid_graph(self, *_args: Any, **_kwargs: Any) -> str:
        """Prefect 3's name for ``visualize`` in mermaid's words."""
        return self.visualize(format="mermaid")

    # -- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        parameters: dict[str, Any] | None = None,
        run_on_schedule: bool | None = None,
        executor: Any = None,
        context: dict[str, Any] | None = None,
        task_states: dict[Any, FlowState] | None = None,
        **kwargs: Any,
    ) -> FlowState:
        """Run here and now and return the final state; keywords named like parameters are parameters.

        A flow with a schedule waits for its times and runs at each, until it has no more or Ctrl-C ends it;
        ``run_on_schedule=False`` runs it once. ``flowdeck daemon`` keeps schedules without such a process.
        """
        if self._opened:
            raise RuntimeError(f"flow {self.name!r} is being drawn: run it after the `with` block")
        self.validate()
        values = {**(parameters or {}), **kwargs}
        on_schedule = bool(self.schedules) if run_on_schedule is None else run_on_schedule
        if on_schedule and not self.schedules:
            raise ValueError(f"flow {self.name!r} has no schedule: give it one, or leave run_on_schedule out")
        self._check_given(values, complete=not on_schedule)
        if _is_loading():
            return Pending("not run: its file is being loaded, not executed", {})
        flow = self if executor is None else self._on(executor)
        states = {self.graph.find(task): state for task, state in (task_states or {}).items()}
        with run_context(**(context or {})):
            if on_schedule:
                from .on_schedule import run_on_schedule as keep_schedule

                return keep_schedule(flow.name, flow.schedules, values, lambda given: flow._run_once(given, states))
            return flow._run_once(values, states)

    def _run_once(self, values: dict[str, Any], given: dict[Node, FlowState]) -> FlowState:
        with given_and_collected(given) as collected:
            self._check_given(values)
            state = self(**values, return_state=True)
        return from_engine(state, collected)

    def _on(self, executor: Any) -> GraphFlow:
        """This flow, its tasks run by ``executor``."""
        flow = copy(self)
        flow.executor = executor
        return flow

    @property
    def executor(self) -> Any:
        """What its tasks run on; None is the default threads."""
        return self.task_runner

    @executor.setter
    def executor(self, executor: Any) -> None:
        self.task_runner = executor

    @property
    def schedule(self) -> Any:
        """When it runs."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: Any) -> None:
        from ..schedules.kinds import parse

        self.schedules = list(parse(schedule))
        self._schedule = schedule

    def register(self, *_args: Any, **_options: Any) -> None:
        """Not here: there is no server to register with."""
        raise UsageError(
            f"flow {self.name!r} needs no registration: `flowdeck daemon FILE.py` runs the flows of a file on their "
            "schedules, `flowdeck submit` on request"
        )

    run_agent = register

    def _check_given(self, values: dict[str, Any], *, complete: bool = True) -> None:
        known = {parameter.name: parameter for parameter in self.graph.parameters()}
        for name in values:
            if name in known:
                continue
            if name in _NOT_KEPT:
                raise ValueError(f"flow {self.name!r}: run({name}=…) is not kept: {_NOT_KEPT[name]}")
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its parameters are {', '.join(known) or 'none'}"
            raise ParameterError(f"flow {self.name!r} has no parameter {name!r}; {hint}")
        missing = [name for name, parameter in known.items() if parameter.required and name not in values]
        if missing and complete:
            raise ParameterError(f"flow {self.name!r} needs {', '.join(missing)}: flow.run({missing[0]}=…)")
        for name, value in values.items():
            known[name].convert(value)

    @property
    def parameters(self) -> Any:
        """The graph's parameters, as the engine has those of a flow's function; called, Prefect 1's set of them."""
        known = self.graph.parameters()
        if self._declared is None or self._declared.known != known or self._declared.fn is not self.fn:
            walk: Any = self.fn
            kind = inspect.Parameter.KEYWORD_ONLY
            walk.__signature__ = inspect.Signature(
                [inspect.Parameter(one.name, kind, default=one.default) for one in known]
            )
            self._declared = GraphParameters(walk, self.name, known)
        return self._declared

    @parameters.setter
    def parameters(self, _of_function: Any) -> None:
        """A graph has its own, which are known only once it is drawn."""


def _is_loading() -> bool:
    return context.is_loading()


def _warn_once(name: str, ignored: tuple[str, ...], _said: set[tuple[str, ...]] = set()) -> None:  # noqa: B006
    if ignored in _said:
        return
    _said.add(ignored)
    warnings.warn(
        f"flow {name!r}: {', '.join(ignored)} of Prefect 1 mean nothing here and are ignored: flows run as processes "
        "of this machine, from their file, and every result is kept in the store",
        UserWarning, stacklevel=4,
    )  # fmt: skip


def _shown(edge: Edge) -> Edge:
    return edge._replace(upstream_task=edge.upstream_task.shown, downstream_task=edge.downstream_task.shown)


