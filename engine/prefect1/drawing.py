"""``flow.generate_mermaid_graph()``: the figure of a flow that is a function, drawn without running its tasks.

The function is called with every task and flow in it standing for what it would give: a call adds a node, and what it
is given makes the edges, as in a ``with Flow(…)`` block. Code between the calls does run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import context
from ..errors import UsageError
from ..running.calls.hooks import run_to_end
from ..states.state import describe_exception
from .graph import Graph
from .visualize import as_mermaid

if TYPE_CHECKING:
    from ..authoring.flows import FunctionFlow


class DrawnFunction(Graph):
    """The graph of a function while it is drawn."""

    draws_flows = True


def mermaid_of(flow: FunctionFlow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The figure in mermaid's words; raises ``UsageError`` where the code needs a value that only a run has."""
    graph = DrawnFunction(flow.name)
    values = flow.parameters.bind(args, kwargs)
    token = context.current_graph.set(graph)
    try:
        run_to_end(flow.fn(**values))
    except Exception as error:
        raise UsageError(
            f"flow {flow.name!r} cannot be drawn without running it: {describe_exception(error)}. While it is drawn no "
            "task has a value, so its code cannot look into one; run it and see its graph in the console"
        ) from error
    finally:
        context.current_graph.reset(token)
    return as_mermaid(graph, {})
