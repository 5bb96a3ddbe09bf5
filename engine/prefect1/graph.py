"""The graph that a ``with Flow("…")`` block draws: its nodes, how they are wired, their order and its cycles.

It runs nothing and knows no store; ``walk`` runs it. A node is one task call, a parameter is a node too. What a
node is given stands in the graph and not in the node, so that several flows may share a node.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..authoring import drawable
from ..authoring.drawable import Drawable, Drawing
from ..authoring.tasks import Task
from ..context import current_tags
from .computing import computing
from .parameters import Node, Parameter
from .wiring import (
    Edge,
    Wiring,
    all_in,
    drawables_in,
    flatten,
    is_marked,
    is_unmapped,
    is_wrapped,
    nodes_in,
    only_marked,
    replaced,
    replaced_nodes,
    whole,
)

if TYPE_CHECKING:
    from ..authoring.flows import FunctionFlow


class TaskNode(Node):
    """A call of a task, plain or mapped."""

    def __init__(self, graph: Drawing | None, task: Task[..., Any], original: Task[..., Any] | None = None) -> None:
        super().__init__(graph, task.name)
        self.task = task
        task.tags |= current_tags.get()
        self.original = original
        """The task itself, where it was put into a flow without being called."""
        parameters = task.signature.parameters.values()
        self.argument_names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]

    @property
    def shown(self) -> Any:
        """What users know it as: the call, or the task itself."""
        return self if self.original is None else self.original

    @property
    def base_name(self) -> str:
        """The name without the number that tells calls of one task apart."""
        return cast("str", self.task.__dict__.get("flowdeck_base_name", self.name))

    def __iter__(self) -> Iterator[Any]:
        from .tasks import outputs_of

        outputs = outputs_of(self.task.fn, self.task._options.get("nout"))
        if outputs is None:
            return super().__iter__()
        return iter([self[place] for place in range(outputs)])

    def __getattr__(self, name: str) -> Any:
        """What a task has, its call has: ``max_retries``, ``tags``, ``trigger`` …"""
        if name.startswith("_") or name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)


class Scope(Protocol):
    """A block open within the flow's."""

    def drawn(self, node: Node) -> None:
        """A node was drawn in it."""

    def wire(
        self, graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any], mapped: bool, /
    ) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        """What a call is given, as the block has it."""

    def keeps_whole(self, source: Any, /) -> bool:
        """Whether a mapped call that waits for this waits for all of it."""


class Graph:
    """The nodes of one flow, in the order they were drawn."""

    draws_flows = False
    """Whether a flow called while this is drawn is a node, too."""

    def __init__(self, flow_name: str) -> None:
        self.flow_name = flow_name
        self.nodes: dict[Node, Wiring] = {}
        self.scopes: list[Scope] = []
        """The blocks open within the flow's, innermost last (``case``, resources, ``apply_map``): told of each node."""
        self._uses: dict[str, int] = {}
        self._order: list[Node] | None = None

    # -- drawing -------------------------------------------------------------------------------------------------

    def add_call(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskNode:
        """What a task's call inside the block does; ``upstream_tasks``, ``mapped`` and ``task_args`` are ours."""
        given = dict(kwargs)
        return self._add(task, args, given, mapped=bool(given.pop("mapped", False)))

    def add_map(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskNode:
        """What a task's ``map`` inside the block does."""
        return self._add(task, args, dict(kwargs), mapped=True)

    def bind(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskNode:
        """What a task's ``bind`` does: the task itself becomes the node."""
        given = dict(kwargs)
        return self._add(task, args, given, mapped=bool(given.pop("mapped", False)), itself=True)

    def compute(self, name: str, operands: tuple[Any, ...]) -> TaskNode:
        """What an operator between tasks does: a call of the task of that name that computes."""
        return self.add_call(computing(name), operands, {})

    def add_flow(self, flow: FunctionFlow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskNode:
        """What a flow's call does while this is drawn and draws flows, too."""
        waited = kwargs.pop("wait_for", None)
        kwargs.pop("return_state", None)
        given = {**kwargs, **({"upstream_tasks": waited} if waited else {})}
        return self.add_call(Task(flow.fn, name=flow.name), args, given)

    def add_task(self, task: Any) -> Node:
        """The node of a task, parameter or call, drawn when it is not yet."""
        if isinstance(task, Node):
            self._take(task)
            return task
        node = _node_of(task)
        if node not in self.nodes:
            self._check_slug(node)
            self._put(node, Wiring())
        return node

    def _add(
        self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, mapped: bool, itself: bool = False
    ) -> TaskNode:
        upstream = kwargs.pop("upstream_tasks", None) or []
        options = dict(kwargs.pop("task_args", None) or {})
        kwargs.pop("flow", None)
        args, kwargs = tuple(map(self._wired, args)), {key: self._wired(value) for key, value in kwargs.items()}
        for scope in reversed(self.scopes):
            args, kwargs, mapped = scope.wire(self, args, kwargs, mapped)
        if not mapped and any(is_marked(value) for value in (*args, *kwargs.values())):
            mapped, args = True, tuple(map(only_marked, args))
            kwargs = {key: only_marked(value) for key, value in kwargs.items()}
        task.arguments(args, kwargs)  # a TypeError belongs to the line that draws the call
        if itself:
            node = _node_of(task.with_options(**options) if options else task)
            if (known := self.nodes.get(node)) is not None and (known.args or known.kwargs):
                raise ValueError(f"{task!r} is bound in flow {self.flow_name!r} already: call it, or copy() it")
        else:
            node = TaskNode(self, self._named(task, options))
        wiring = Wiring(args, kwargs, mapped)
        for source in all_in((*args, *kwargs.values())):
            self._take(source)
        self._check_slug(node)
        self._put(node, wiring)
        for source in upstream if isinstance(upstream, (list, tuple, set, frozenset)) else [upstream]:
            each = mapped and not is_unmapped(source) and not any(scope.keeps_whole(source) for scope in self.scopes)
            self.add_edge(source.value if is_unmapped(source) else source, node, mapped=each)
        return node

    def _named(self, task: Any, options: dict[str, Any]) -> Any:
        """A copy with a name of its own: what a retry remembers must not depend on the order calls get ready in."""
        base = str(options.pop("name", None) or task.name)
        own = task.with_options(name=self._next_name(base), **options)
        own.flowdeck_base_name = base
        return _ruled(own)

    def _next_name(self, base: str) -> str:
        self._uses[base] = self._uses.get(base, 0) + 1
        return base if self._uses[base] == 1 else f"{base}-{self._uses[base]}"

    def _put(self, node: Node, wiring: Wiring) -> None:
        if isinstance(node, TaskNode) and node.original is not None and node not in self.nodes:
            node.graph = node.graph or self
            if node.name in {one.name for one in self.nodes}:
                node.task.name = node.task.key = node.name = self._next_name(node.base_name)
            else:
                self._uses.setdefault(node.base_name, 1)
        self.nodes[node] = wiring
        self._order = None
        for scope in self.scopes:
            scope.drawn(node)

    def _check_slug(self, node: Node) -> None:
        slug = getattr(node, "slug", None)
        if slug and any(getattr(other, "slug", None) == slug for other in self.nodes if other is not node):
            raise ValueError(f"flow {self.flow_name!r} has a task with the slug {slug!r} already: slugs are unique")

    def add_parameter(self, parameter: Parameter) -> None:
        """Let each run give a value of this name; adding it again changes nothing."""
        if parameter in self.nodes:
            return
        if any(isinstance(node, Parameter) and node.name == parameter.name for node in self.nodes):
            raise ValueError(f"flow {self.flow_name!r} has a parameter {parameter.name!r} already")
        parameter.graph = self
        self.nodes[parameter] = Wiring()
        self._order = None

    def add_edge(
        self, upstream: Any, downstream: Any, key: str | None = None, mapped: bool = False, flattened: bool = False
    ) -> Edge:
        """Run ``upstream`` before ``downstream``, whose argument ``key`` it then feeds (also with a plain value)."""
        target = self.add_task(downstream) if isinstance(downstream, Drawable) else self._no_task(downstream)
        if not isinstance(target, TaskNode):
            raise ValueError(f"{target!r} is given from outside: nothing can come before it")  # noqa: TRY004
        source = self._wired(upstream)
        for node in all_in((source,)):
            self._take(node)
        wiring = self.nodes[target]
        if key is not None:
            if isinstance(source, flatten):
                mapped, flattened, source = True, True, source.value
            self._feed(target, wiring, key, source, mapped or flattened, flattened)
        elif isinstance(source, Node):
            if mapped and not wiring.mapped:
                self._map_from_here(wiring)
            wiring.waits_for[source] = mapped or wiring.waits_for.get(source, False)
        else:
            self._no_task(upstream)
        self._order = None
        shown = source.shown if isinstance(source, Node) else source
        return Edge(shown, target.shown, key, mapped or flattened, flattened)

    @staticmethod
    def _map_from_here(wiring: Wiring) -> None:
        """It becomes mapped by a further edge: the arguments it has are passed whole to each of its runs."""
        wiring.args = tuple(map(whole, wiring.args))
        wiring.kwargs = {name: whole(value) for name, value in wiring.kwargs.items()}
        wiring.mapped = True

    def _feed(self, node: TaskNode, wiring: Wiring, key: str, source: Any, each: bool, flattened: bool) -> None:
        """Take ``source`` as argument ``key``, in the place of what stood there."""
        if each and not wiring.mapped:
            self._map_from_here(wiring)
        value = flatten(source) if flattened else whole(source) if wiring.mapped and not each else source
        names = node.argument_names
        takes_any = any(p.kind is p.VAR_KEYWORD for p in node.task.signature.parameters.values())
        if key not in names and not takes_any:
            raise TypeError(f"task {node.name!r} has no argument {key!r}; its arguments are {node.task.signature}")
        position = names.index(key) if key in names else len(wiring.args)
        if position < len(wiring.args):
            wiring.args = (*wiring.args[:position], value, *wiring.args[position + 1 :])
        else:
            wiring.kwargs[key] = value

    def set_dependencies(
        self, task: Any, upstream_tasks: Iterable[Any] | None, downstream_tasks: Iterable[Any] | None,
        keyword_tasks: dict[str, Any] | None, mapped: bool = False,
    ) -> None:
        """Several edges of one task at once."""
        node = self.add_task(task)
        for upstream in upstream_tasks or ():
            passed_whole = is_unmapped(upstream)
            source = upstream.value if passed_whole else upstream
            self.add_edge(source, node, mapped=mapped and not passed_whole)
        for downstream in downstream_tasks or ():
            self.add_edge(node, downstream, mapped=mapped)
        for key, value in (keyword_tasks or {}).items():
            passed_whole = is_unmapped(value)
            source = value.value if passed_whole else value
            self.add_edge(source, node, key, mapped and not passed_whole)

    def _wired(self, value: Any) -> Any:
        """An argument with tasks that were not called in the place of values replaced by their nodes."""
        if isinstance(value, Drawable) and not isinstance(value, Node):
            return self.add_task(value)
        if not isinstance(value, (list, tuple, set, frozenset, dict)) and not is_wrapped(value):
            return value
        return value if all(isinstance(one, Node) for one in drawables_in(value)) else replaced(value, self._wired)

    def _take(self, node: Node) -> None:
        """A node that another one needs: a parameter joins the flow, a call must be of it."""
        if isinstance(node, Parameter):
            self.add_parameter(node)
        if node not in self.nodes:
            raise ValueError(f"{node!r} belongs to another flow than {self.flow_name!r}: call its task in this block")

    def _no_task(self, value: Any) -> Node:
        raise ValueError(f"{value!r} is no task call of flow {self.flow_name!r}: call the task inside its block")

    # -- changing ------------------------------------------------------------------------------------------------

    def copy(self, flow_name: str) -> Graph:
        """The same nodes, wired alike, to be changed on their own."""
        made = Graph(flow_name)
        made.nodes = {node: wiring.changed(lambda value: value) for node, wiring in self.nodes.items()}
        made._uses = dict(self._uses)
        return made

    def take_over(self, other: Graph, *, merge_parameters: bool) -> None:
        """Add everything of another graph; with ``merge_parameters``, parameters of one name become one."""
        own = {parameter.name: parameter for parameter in self.parameters()}
        instead: dict[Node, Any] = {}
        for parameter in other.parameters():
            known = own.get(parameter.name)
            if known is not None and known is not parameter:
                if not merge_parameters:
                    text = f"both flows have a parameter {parameter.name!r}: say merge_parameters=True"
                    raise ValueError(text)
                instead[parameter] = known
        for node, wiring in other.nodes.items():
            if node in instead or node in self.nodes:
                continue
            self._check_slug(node)
            if isinstance(node, TaskNode) and node.name in {one.name for one in self.nodes}:
                node.task.name = node.task.key = node.name = self._next_name(node.base_name)
            self._uses.setdefault(node.name, 1)
            self.nodes[node] = wiring.changed(lambda value: replaced_nodes(value, instead))
        self._order = None

    def replace(self, old: Any, new: Any) -> None:
        """Put a task, parameter or value in the place of a node, with the same wiring."""
        node = old if isinstance(old, Node) else _node_of(old)
        if node not in self.nodes:
            raise ValueError(f"{old!r} is not in flow {self.flow_name!r}")
        wiring = self.nodes.pop(node)
        instead = self._wired(new) if isinstance(new, Drawable) else new
        if isinstance(instead, Parameter):
            self.add_parameter(instead)
        elif isinstance(instead, TaskNode):
            self.nodes[instead] = wiring
        self.nodes = {
            one: wired.changed(lambda value: replaced_nodes(value, {node: instead}))
            for one, wired in self.nodes.items()
        }  # fmt: skip
        self._order = None

    # -- reading -------------------------------------------------------------------------------------------------

    def find(self, task: Any) -> Node:
        """The node that users mean; ``ValueError`` when it is not of this flow."""
        node = task if isinstance(task, Node) else _node_of(task) if isinstance(task, Drawable) else None
        if node is None or node not in self.nodes:
            raise ValueError(f"{task!r} is not in flow {self.flow_name!r}")
        return node

    def parameters(self) -> list[Parameter]:
        """The parameters, in the order they were added."""
        return [node for node in self.nodes if isinstance(node, Parameter)]

    def calls(self) -> list[TaskNode]:
        """The task calls, in the order they were drawn."""
        return [node for node in self.nodes if isinstance(node, TaskNode)]

    def arguments(self, node: TaskNode) -> Iterator[tuple[str, Any]]:
        """(name, value) of what is passed, positional ones by the name the task's function gives them."""
        wiring = self.nodes[node]
        yield from zip(itertools.chain(node.argument_names, itertools.repeat("*args")), wiring.args, strict=False)
        yield from wiring.kwargs.items()

    def edges_to(self, node: Node) -> list[Edge]:
        """What a node needs, between nodes: what its arguments hold first, then what it only waits for."""
        if not isinstance(node, TaskNode):
            return []
        wiring = self.nodes[node]
        found: dict[tuple[Node, str], Edge] = {}
        for key, value in self.arguments(node):
            each, flat = wiring.mapped and not is_unmapped(value), isinstance(value, flatten)
            for source in nodes_in(value):
                found.setdefault((source, key), Edge(source, node, key, each, flat))
        fed = {source for source, _ in found}
        waits = [Edge(source, node, None, each) for source, each in wiring.waits_for.items() if source not in fed]
        return [*found.values(), *waits]

    def upstream(self, node: Node) -> list[Node]:
        """The nodes that come before one, each once."""
        return list(dict.fromkeys(edge.upstream_task for edge in self.edges_to(node)))

    def edges(self) -> list[Edge]:
        """Every edge, between nodes."""
        return [edge for node in self.nodes for edge in self.edges_to(node)]

    def terminal(self) -> list[Node]:
        """The nodes nothing comes after."""
        sources = {edge.upstream_task for edge in self.edges()}
        return [node for node in self.nodes if node not in sources]

    def roots(self) -> list[Node]:
        """The nodes nothing comes before."""
        return [node for node in self.nodes if not self.edges_to(node)]

    def in_order(self) -> list[Node]:
        """Every node after what it needs, else as drawn; a cycle raises ``ValueError`` naming its tasks."""
        if self._order is None:
            self._order = self._sorted()
        return self._order

    def _sorted(self) -> list[Node]:
        before = {node: self.upstream(node) for node in self.nodes}
        after: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node, sources in before.items():
            for source in sources:
                after[source].append(node)
        missing = {node: len(sources) for node, sources in before.items()}
        order = [node for node, count in missing.items() if count == 0]
        for node in order:  # grows while it is gone through
            for following in after[node]:
                missing[following] -= 1
                if missing[following] == 0:
                    order.append(following)
        if len(order) < len(self.nodes):
            raise ValueError(f"flow {self.flow_name!r} has a cycle: {_cycle(before, set(order))}")
        return order


def graph_for(*things: Any, flow: Any = None) -> Graph:
    """The graph to draw into: the given flow's, that of the open block, or the one a thing was drawn in."""
    return cast("Graph", drawable.graph_for(*things, flow=flow))


def _node_of(task: Any) -> TaskNode:
    """The node of a task that is put into flows without being called: one for each task."""
    node: TaskNode | None = task.__dict__.get("flowdeck_node")
    if node is None:
        own = _ruled(task.with_options(name=task.name))
        own.flowdeck_base_name = task.name
        node = task.__dict__["flowdeck_node"] = TaskNode(None, own, task)
    return node


def _ruled(task: Any) -> Any:
    """With Prefect 1's rules: what fails is TriggerFailed for what comes after it, and skips go on."""
    if task.rules is None:
        from .rules import Rules

        task.rules = Rules()
    return task


def _cycle(before: dict[Node, list[Node]], sorted_out: Iterable[Node]) -> str:
    """``a → b → a``: one cycle among the nodes that could not be sorted."""
    fine = set(sorted_out)
    node = next(node for node in before if node not in fine)
    path: dict[Node, None] = {}
    while node not in path:
        path[node] = None
        node = next(source for source in before[node] if source not in fine)
    round_ = list(itertools.dropwhile(lambda one: one is not node, path))
    return " → ".join(one.name for one in reversed([*round_, node]))
