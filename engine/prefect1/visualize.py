"""A flow's graph as text for the terminal, as mermaid and as DOT, coloured by the states of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from typing import Any, Final

from ..errors import UsageError
from .graph import Graph
from .parameters import Node, Parameter
from .states import FlowState

_FORMATS: Final = {
    ".txt": "text", ".mmd": "mermaid", ".mermaid": "mermaid", ".md": "mermaid", ".dot": "dot", ".gv": "dot",
    ".svg": "svg", ".png": "png", ".pdf": "pdf",
}
_PICTURES: Final = ("svg", "png", "pdf")
_MARKS: Final = {"Success": "✔", "Cached": "✔", "Mapped": "✔", "Skipped": "○", "Cancelled": "■", "Failed": "✘"}


def drawn(
    graph: Graph, flow_state: FlowState | None, filename: str | None, chosen: str | None, *, horizontal: bool
) -> str:
    """The figure as text; also written to the file, whose ending says the format unless one is chosen."""
    ending = os.path.splitext(filename)[1].lower() if filename is not None else ""
    form = chosen or _FORMATS.get(ending) or "mermaid"
    if form not in _FORMATS.values():
        raise ValueError(f"format {form!r} is not known: use 'text', 'mermaid', 'dot', or 'svg', 'png', 'pdf'")
    states: dict[Any, FlowState] = dict(flow_state.result or {}) if flow_state is not None else {}
    by_node = {node: states[node.shown] for node in graph.in_order() if node.shown in states}
    if form == "text":
        figure = as_text(graph, by_node)
    elif form == "mermaid":
        figure = as_mermaid(graph, by_node, horizontal=horizontal)
    else:
        figure = as_dot(graph, by_node, horizontal=horizontal)
    if form in _PICTURES:
        if filename is None:
            raise ValueError(f"format {form!r} is a picture: say filename=")
        _write_picture(figure, filename if ending else f"{filename}.{form}", form)
    elif filename is not None:
        with open(filename, "w", encoding="utf-8") as file:
            file.write(figure + "\n")
    return figure


def _write_picture(figure: str, filename: str, form: str) -> None:
    program = shutil.which("dot")
    if program is None:
        raise UsageError(
            f"a {form} needs the program `dot` of graphviz, which is not on the path: install graphviz, or write "
            f"visualize(filename={os.path.splitext(filename)[0]!r} + '.dot') or '.mmd' and have it drawn elsewhere"
        )
    done = subprocess.run(
        [program, f"-T{form}", "-o", filename], input=figure, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise UsageError(f"`dot` could not draw {filename}: {done.stderr.strip()}")


def _label(graph: Graph, node: Node, state: FlowState | None) -> str:
    name = "".join(letter if letter.isprintable() else "�" for letter in node.name)
    if not graph.nodes[node].mapped:
        return name
    runs = state.map_states if state is not None else None
    if not runs:
        return f"{name} (mapped)"
    counts = Counter(type(one).__name__ for one in runs)
    return f"{name} (mapped: {', '.join(f'{count} {word}' for word, count in counts.items())})"


def as_text(graph: Graph, states: dict[Node, FlowState]) -> str:
    """A tree: each task below the last of those it comes after, the others named behind an arrow."""
    below: dict[Node | None, list[Node]] = {None: []}
    order = graph.in_order()
    place = {node: number for number, node in enumerate(order)}
    for node in order:
        sources = graph.upstream(node)
        below.setdefault(max(sources, key=place.__getitem__) if sources else None, []).append(node)
    lines: list[str] = []
    waiting = [(node, "", "") for node in reversed(below[None])]
    while waiting:
        node, first, rest = waiting.pop()
        sources = graph.upstream(node)
        others = [one.name for one in sources if one is not max(sources, key=place.__getitem__)]
        state = states.get(node)
        mark = f"{_MARKS.get(type(state).__name__, '✘' if state.is_failed() else '·')} " if state is not None else ""
        said = f"  {state.name}" if state is not None and not state.is_successful() else ""
        also = f" ← {', '.join(others)}" if others else ""
        lines.append(f"{first}{mark}{_label(graph, node, state)}{said}{also}")
        children = below.get(node, [])
        for number, child in reversed(list(enumerate(children, start=1))):
            last = number == len(children)
            waiting.append((child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")))
    return "\n".join(lines)


def as_mermaid(graph: Graph, states: dict[Node, FlowState], *, horizontal: bool = False) -> str:
    """The graph in mermaid's words; mapped edges are dotted."""
    ids = {node: f"n{number}" for number, node in enumerate(graph.in_order())}
    lines = ["graph LR" if horizontal else "graph TD"]
    for node, name in ids.items():
        label = _label(graph, node, states.get(node)).replace("#", "#35;").replace('"', "#quot;")
        lines.append(f'    {name}(["{label}"])' if isinstance(node, Parameter) else f'    {name}["{label}"]')
    for edge in graph.edges():
        arrow = "-.->" if edge.mapped else "-->"
        key = f"|{edge.key}|" if edge.key else ""
        lines.append(f"    {ids[edge.upstream_task]} {arrow}{key} {ids[edge.downstream_task]}")
    lines += [f"    style {ids[node]} fill:{state.color}" for node, state in states.items()]
    return "\n".join(lines)


def as_dot(graph: Graph, states: dict[Node, FlowState], *, horizontal: bool = False) -> str:
    """The graph in graphviz's words; mapped edges are dashed."""
    ids = {node: f"n{number}" for number, node in enumerate(graph.in_order())}
    lines = ["digraph {", f'    label="{_quoted(graph.flow_name)}"', f"    rankdir={'LR' if horizontal else 'TB'}"]
    for node, name in ids.items():
        state = states.get(node)
        shape = "ellipse" if isinstance(node, Parameter) else "box"
        colour = f', style=filled, fillcolor="{state.color}80"' if state is not None else ""
        lines.append(f'    {name} [label="{_quoted(_label(graph, node, state))}", shape={shape}{colour}]')
    for edge in graph.edges():
        options = [f'label="{_quoted(edge.key)}"'] if edge.key else []
        options += ["style=dashed"] if edge.mapped else []
        more = f" [{', '.join(options)}]" if options else ""
        lines.append(f"    {ids[edge.upstream_task]} -> {ids[edge.downstream_task]}{more}")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
