"""GraphView: a run's tasks and what they need of each other, drawn with box characters, coloured by state.

The cursor stands on a node and moves along the edges: its edges are bright, drawn over all others, which are dim but
keep their arms where they join. A change of state recolours the nodes it concerns and nothing else. Give it everything
with ``show``, changes of state with ``apply``; it takes rows of the store as they are and sanitises what it shows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ..look import cells, theme
from ..look.spans import Span, fit_spans
from ..models.graph import Canvas, NodeId, Place, strokes
from ..models.graph_model import OPEN_UP_TO, GraphModel
from ..models.tree_parts import TaskKey
from ..text import times
from .graph_words import about, group_bar

if TYPE_CHECKING:
    from textual import events

    from ...store.rows import EdgeRow, TaskRow

_LEFT: Final = 2
_TOP: Final = 1
"""Cells left free before the drawing."""
_PAN: Final = 8
_GAP: Final[Span] = ("   ", None)
_MAX_HOPS: Final = 20
_REST: Final = 4
"""How many times as long as drawing took is waited before another shape is drawn."""


_JOINTS = frozenset("├┤┬┴┼+")
"""Where other edges join or cross: the bright one keeps their arms, or they would seem to end in nothing."""


class GraphView(ScrollView, can_focus=True):
    """The graph of a run; see the module's text. The last line of the widget tells about the node at the cursor."""

    DEFAULT_CSS = """
    GraphView { overflow-x: hidden; overflow-y: hidden; height: 1fr; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "along(1)", "downstream", id="graph.downstream", show=False),
        Binding("left,h", "along(-1)", "upstream", id="graph.upstream", show=False),
        Binding("down,j", "beside(1)", "node below", id="graph.below", show=False),
        Binding("up,k", "beside(-1)", "node above", id="graph.above", show=False),
        Binding("home,g", "edge(-1)", "first node", id="graph.first", show=False),
        Binding("end,G", "edge(1)", "last node", id="graph.last", show=False),
        Binding("enter", "choose", "open", id="graph.open", show=False),
        Binding("space", "fold", "open or fold", id="graph.fold"),
        Binding("o", "focus_mode", "only near", id="graph.near"),
        Binding("plus", "hops(1)", "further", id="graph.further", show=False),
        Binding("minus", "hops(-1)", "nearer", id="graph.nearer", show=False),
        Binding("e", "next_problem", "next problem", id="graph.problem"),
        Binding("shift+left", "pan(-1, 0)", "scroll left", id="graph.pan_left", show=False),
        Binding("shift+right", "pan(1, 0)", "scroll right", id="graph.pan_right", show=False),
        Binding("shift+down,pagedown,ctrl+d", "pan(0, 1)", "scroll down", id="graph.pan_down", show=False),
        Binding("shift+up,pageup,ctrl+u", "pan(0, -1)", "scroll up", id="graph.pan_up", show=False),
    ]

    class Highlighted(Message):
        """The cursor stands on another node; ``key`` is None on a folded group."""

        def __init__(self, view: GraphView, key: TaskKey | None) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> GraphView:
            """The view it came from."""
            return self.view

    class Chosen(Message):
        """Enter was pressed on a task."""

        def __init__(self, view: GraphView, key: TaskKey) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> GraphView:
            """The view it came from."""
            return self.view

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.model = GraphModel(cells.safe, ascii_only=theme.palette().ascii)
        self.cursor: NodeId | None = None
        self.canvas: Canvas = self.model.canvas
        self._bright: dict[tuple[int, int], str] = {}
        self._near: set[NodeId] = set()
        self._asked = False
        """Whether somebody chose focus mode, or the whole graph, by hand."""
        self._notice = ""
        self._not_before = 0.0
        """By the monotonic clock: a graph that is dear to draw is not drawn anew with every new task."""
        self._waiting: tuple[list[TaskRow], list[EdgeRow]] | None = None

    # ---- the owner's side -------------------------------------------------------------------------------------

    def show(self, tasks: Iterable[TaskRow], edges: Iterable[EdgeRow]) -> None:
        """These are all tasks of the run and of its subflows, and all edges. Cheap when only states changed."""
        given = list(tasks), list(edges)
        now = time.monotonic()
        if now < self._not_before:
            if self._waiting is None:
                self.set_timer(self._not_before - now, self._show_waiting)
            self._waiting = given
            return
        self._show_now(*given)
        self._not_before = time.monotonic() + _REST * (time.monotonic() - now)

    def _show_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._not_before = 0.0
            self.show(*waiting)

    def _show_now(self, tasks: list[TaskRow], edges: list[EdgeRow]) -> None:
        if not self.model.load(tasks, edges):
            self.refresh()
            return
        if self.cursor is None or self.cursor not in self._known():
            self.cursor = self.model.first_of_interest()
        if not self._asked:
            self.model.focus = self.cursor if self.model.too_many else None
        first = not self.canvas.places
        self._draw_anew(centre=first)

    def apply(self, tasks: Iterable[TaskRow]) -> None:
        """Tasks changed their state; unknown ones are left to the next ``show``."""
        changed = self.model.apply(tasks)
        for node in changed:
            self._refresh_node(node)
        if self.cursor in changed:
            self._refresh_status()

    def move_to(self, node: NodeId) -> bool:
        """Puts the cursor on a node, or on the node that stands for a task; False when there is none."""
        node = self.model.folded.node_of.get(node, node)
        if node not in self._known():
            return False
        self.cursor = node
        self._notice = ""
        if self.model.focus is not None:
            # What is near is another set of nodes now; the cursor's node stays where the eye is.
            old = self.canvas.places.get(node)
            self.model.focus = node
            self._draw_anew()
            new = self.canvas.places[node]
            if old is not None:
                self._scroll(self.scroll_x + new.column - old.column, self.scroll_y + new.row - old.row)
        self._light()
        self._reveal()
        self.refresh()
        self.post_message(self.Highlighted(self, node if isinstance(node, TaskKey) else None))
        return True

    def _known(self) -> set[NodeId]:
        return {node.id for node in self.model.folded.nodes}

    # ---- place ------------------------------------------------------------------------------------------------

    def _draw_anew(self, *, centre: bool = False) -> None:
        if self.model.focus is not None and self.model.focus not in self._known():
            self.model.focus = self.cursor
        self.canvas = self.model.draw()
        if self.cursor not in self.canvas.places:
            self.cursor = next(iter(self.canvas.places), None)
        self.virtual_size = Size(self.canvas.width + 2 * _LEFT, self.canvas.height + 2 * _TOP + 1)
        self._light()
        if centre:
            self._centre()
        else:
            self._reveal()
        self.refresh()

    def _light(self) -> None:
        """Finds the cells of the cursor's edges."""
        node = self.cursor
        if node is None or node not in self.canvas.places:
            self._bright, self._near = {}, set()
            return
        before, after = self.canvas.before[node], self.canvas.after[node]
        self._near = {node, *before, *after}
        edges = [*((other, node) for other in before), *((node, other) for other in after)]
        segments = [segment for edge in edges for segment in self.canvas.path(edge)]
        self._bright = strokes(segments, ascii_only=self.canvas.ascii)
        for _, end in edges:
            place = self.canvas.places[end]
            self._bright[place.row, place.column - 1] = ">" if self.canvas.ascii else "▶"

    def _body_height(self) -> int:
        return max(1, self.size.height - 1)

    def _scroll(self, x: float, y: float) -> None:
        self.scroll_to(x=max(0, x), y=max(0, y), animate=False, force=True, immediate=True)

    def _centre(self) -> None:
        place = self.canvas.places.get(self.cursor)
        if place is not None:
            self._scroll(
                place.column + _LEFT + place.width // 2 - self.size.width // 2,
                place.row + _TOP - self._body_height() // 2,
            )

    def _reveal(self) -> None:
        """Scrolls no further than it takes to see the cursor's node, and a little around it."""
        place = self.canvas.places.get(self.cursor)
        if place is None:
            return
        x, y = round(self.scroll_x), round(self.scroll_y)
        left, right = max(0, place.column - 4), place.column + _LEFT + place.width + 8
        top, bottom = max(0, place.row - 1), place.row + _TOP + 2
        new_x = min(left, max(x, right - self.size.width))
        new_y = min(top, max(y, bottom - self._body_height()))
        if (new_x, new_y) != (x, y):
            self._scroll(new_x, new_y)

    def _refresh_node(self, node: NodeId) -> None:
        place = self.canvas.places.get(node)
        if place is None:
            return
        x, y = place.column + _LEFT - round(self.scroll_x), place.row + _TOP - round(self.scroll_y)
        visible = Region(x, y, place.width, 1).intersection(Region(0, 0, self.size.width, self._body_height()))
        if visible:
            self.refresh(visible)

    def _refresh_status(self) -> None:
        self.refresh(Region(0, self._body_height(), self.size.width, 1))

    # ---- drawing ----------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of the widget."""
        width = self.size.width
        base = theme.palette().base
        if y >= self._body_height():
            return self._status(width)
        if not self.canvas.places:
            text = "   No tasks yet." if y == _TOP else ""
            return Strip(fit_spans(((text, theme.palette().dim),), width, base))
        row = y + round(self.scroll_y) - _TOP
        if not 0 <= row < self.canvas.height:
            return Strip.blank(width, base)
        first = round(self.scroll_x) - _LEFT
        return Strip(self._row_segments(row, first, first + width, base)).adjust_cell_length(width, base)

    def _row_segments(self, row: int, first: int, end: int, base: Style) -> list[Segment]:
        """The cells from ``first`` to ``end`` of one row of the drawing."""
        segments: list[Segment] = []
        column = first
        if column < 0:
            segments.append(Segment(" " * -column, base))
            column = 0
        for node in self.canvas.nodes_in_row[row]:
            place = self.canvas.places[node]
            if place.column + place.width <= column:
                continue
            if place.column >= end:
                break
            segments += self._line_segments(row, column, place.column, base)
            drawn = Strip(self._node_segments(node, place, base))
            start = max(0, column - place.column)
            segments += drawn.crop(start, min(place.width, end - place.column))
            column = place.column + place.width
        return segments + self._line_segments(row, column, min(end, self.canvas.width), base)

    def _line_segments(self, row: int, first: int, end: int, base: Style) -> list[Segment]:
        """Lines between nodes: dim, with the cursor's edges bright and on top."""
        palette = theme.palette()
        dim, bright = base + palette.faint, base + palette.accent
        line = self.canvas.line(row)
        segments: list[Segment] = []
        start = first
        for column in range(first, end):
            glyph = self._bright.get((row, column))
            if glyph is not None:
                if column > start:
                    segments.append(Segment(line[start:column], dim))
                joint = line[column]
                segments.append(Segment(joint if joint in _JOINTS else glyph, bright))
                start = column + 1
        if end > start:
            segments.append(Segment(line[start:end], dim))
        return segments

    def _node_segments(self, node: NodeId, place: Place, base: Style) -> list[Segment]:
        """Glyph, label, and for a folded group its bar and counts."""
        palette = theme.palette()
        state = self.model.state(node)
        look = palette.look(state.state_type, state.state_name)
        at_cursor = node == self.cursor
        if at_cursor:
            base = base + (palette.cursor if self.has_focus else palette.cursor_blurred)
            label = palette.strong
        elif state.state_type in ("FAILED", "CRASHED", "RUNNING"):
            label = look.style
        else:
            label = palette.text if node in self._near else palette.dim
        segments = [Segment(look.glyph, base + look.style), Segment(f" {place.label}", base + label)]
        if state.counts is not None:
            spans = (*group_bar(state.counts), (f" {state.counts.done}/{state.counts.total}", palette.dim))
            used = sum(segment.cell_length for segment in segments)
            segments += fit_spans(spans, place.width - used, base)
        return segments

    def _status(self, width: int) -> Strip:
        """The last line: the node at the cursor, and how much of the graph is drawn."""
        palette = theme.palette()
        drawn, all_nodes = len(self.canvas.places), len(self.model.folded.nodes)
        right = f"   {times.number(drawn)} nodes  {times.number(len(self.canvas.edges))} edges "
        if self.model.focus is not None:
            right = f"   within {self.model.hops}: {times.number(drawn)} of {times.number(all_nodes)} nodes "
        room = max(0, width - len(right))
        left: list[Span] = [(" ", None)]
        if self._notice:
            left += [(self._notice, palette.warn), _GAP]
        if self.cursor in self.canvas.places:
            needs, feeds = len(self.canvas.before[self.cursor]), len(self.canvas.after[self.cursor])
            left += about(self.model.state(self.cursor), self.canvas.places[self.cursor].label, needs, feeds)
        segments = fit_spans(tuple(left), room, palette.bar, ellipsis=palette.glyph("…", "~"))
        return Strip([*segments, Segment(right, palette.bar_text)]).crop(0, width)

    # ---- keys and mouse ---------------------------------------------------------------------------------------

    def action_along(self, step: int) -> None:
        """Go downstream or upstream."""
        if self.cursor in self.canvas.places:
            self.move_to(self.canvas.along(self.cursor, step))

    def action_beside(self, step: int) -> None:
        """Go to the node below or above."""
        if self.cursor in self.canvas.places:
            self.move_to(self.canvas.beside(self.cursor, step))

    def action_edge(self, direction: int) -> None:
        """Go to the first or the last node."""
        places = sorted(self.canvas.places.items(), key=lambda item: (item[1].column, item[1].row))
        if places:
            self.move_to(places[0 if direction < 0 else -1][0])

    def action_next_problem(self) -> None:
        """Go to the next node that failed, from the cursor on and round."""
        nodes = [node.id for node in self.model.folded.nodes]
        start = nodes.index(self.cursor) + 1 if self.cursor in nodes else 0
        for node in (*nodes[start:], *nodes[:start]):
            state = self.model.state(node)
            if state.counts.failed if state.counts is not None else state.state_type in ("FAILED", "CRASHED"):
                self.move_to(node)
                return
        self._notice = "nothing failed"
        self._refresh_status()

    def action_choose(self) -> None:
        """Open a group, or say that a task was chosen."""
        if isinstance(self.cursor, TaskKey):
            self.post_message(self.Chosen(self, self.cursor))
        else:
            self.action_fold()

    def action_fold(self) -> None:
        """Open a folded group, or fold the group of the task at the cursor."""
        if self.cursor is None:
            return
        members = self.model.folded.members.get(self.cursor, ())
        task = self.cursor if isinstance(self.cursor, TaskKey) else None
        if not self.model.toggle(self.cursor):
            self._notice = f"more than {OPEN_UP_TO} stay folded" if members else ""
            self._refresh_status()
            return
        self._notice = ""
        self.cursor = members[0] if members else self.model.folded.node_of.get(task)
        if self.model.focus is not None:
            self.model.focus = self.cursor
        self._draw_anew()

    def action_focus_mode(self) -> None:
        """Draw only what is near the cursor, or everything again."""
        self._asked = True
        self.model.focus = None if self.model.focus is not None else self.cursor
        self._draw_anew(centre=True)

    def action_hops(self, step: int) -> None:
        """Look further or less far around the cursor."""
        if self.model.focus is not None:
            self.model.hops = max(1, min(_MAX_HOPS, self.model.hops + step))
            self._draw_anew()

    def action_pan(self, right: int, down: int) -> None:
        """Scroll without moving the cursor."""
        self._scroll(self.scroll_x + right * _PAN * 2, self.scroll_y + down * _PAN)

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens."""
        row, column = event.y + round(self.scroll_y) - _TOP, event.x + round(self.scroll_x) - _LEFT
        if event.y >= self._body_height() or not 0 <= row < self.canvas.height:
            return
        for node in self.canvas.nodes_in_row[row]:
            place = self.canvas.places[node]
            if place.column <= column < place.column + place.width:
                self.move_to(node)
                if event.chain == 2:
                    self.action_choose()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel scrolls; with shift sideways."""
        self._wheel(event, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel scrolls; with shift sideways."""
        self._wheel(event, -1)

    def _wheel(self, event: events.MouseEvent, step: int) -> None:
        event.stop()
        if event.shift:
            self._scroll(self.scroll_x + step * _PAN, self.scroll_y)
        else:
            self._scroll(self.scroll_x, self.scroll_y + step * 3)

    def on_resize(self, _: events.Resize) -> None:
        """The cursor stays in sight."""
        self._reveal()

    def on_focus(self) -> None:
        """The cursor shows that the keys go here."""
        self.refresh()

    def on_blur(self) -> None:
        """The cursor shows that the keys go elsewhere."""
        self.refresh()


