"""The console's app as its places, verbs and first and last line see it: what may be asked of it, and nothing more.

Only protocols stand here. ``console.Console`` plays ``Shell``, ``screens.page.Page`` plays ``InSight``; those who ask
know neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from textual.geometry import Size
from textual.screen import Screen

from ..store.rows import RunRow
from .actions import Place
from .asks import Asker
from .feed.thread import Feed
from .look.spans import Spans
from .look.theme import Palette
from .text.waiting import Daemon

if TYPE_CHECKING:
    from ..store.tables.nodes import Node


class NodeAt(NamedTuple):
    """A part of a run tree under the cursor."""

    node: Node
    label: str
    """``load[3] (42/7)``: raw text from the store inside."""
    unfinished: int
    """How many calls of it have not ended."""


class InSight(Protocol):
    """The place that is shown."""

    @property
    def place(self) -> Place:
        """Which keys work in it."""

    def trail(self) -> Spans:
        """Where we are, for the header."""

    def targets(self) -> list[RunRow]:
        """The runs that verbs act on."""

    def node(self) -> NodeAt | None:
        """The part of a run at the cursor, where the place shows parts."""

    def flow_at_cursor(self) -> str:
        """The flow or deployment that would be triggered here; empty when there is none."""


class Shell(Protocol):
    """The app."""

    @property
    def feed(self) -> Feed:
        """What reads the store."""

    @property
    def asker(self) -> Asker:
        """What asks ``engine.control``."""

    @property
    def daemon(self) -> Daemon:
        """The daemon as it was last seen."""

    @property
    def palette(self) -> Palette:
        """Colours and glyphs."""

    @property
    def keymap(self) -> Mapping[str, str]:
        """Keys of the person's own."""

    @property
    def read_only(self) -> bool:
        """Whether nothing may be asked."""

    @property
    def size(self) -> Size:
        """Of the terminal, in cells."""

    @property
    def in_sight(self) -> InSight:
        """The place that is shown."""

    def run_in_list(self, run_id: int) -> RunRow | None:
        """A run of the list, where it is loaded."""

    def flows_in_list(self) -> Iterable[str]:
        """Flows and deployments of the runs that are loaded."""

    def neighbour(self, run_id: int, step: int) -> int | None:
        """The run before or after this one in the list."""

    def clear_marks(self) -> None:
        """What was marked has been acted on."""

    def notice(self, text: str, *, good: bool = True) -> None:
        """Say this above the keys for some seconds."""

    def say_all(self) -> None:
        """Write the first and the last line anew."""

    def say_footer(self) -> None:
        """Write the last line anew."""

    def go_runs(self, filter_text: str | None = None) -> None:
        """Show the list of runs."""

    def go_run(self, run_id: int, tab: str | None = None) -> None:
        """Show one run."""

    def action_act(self, action_id: str) -> None:
        """Do an action of the registry, as its key would."""

    def push_screen(self, screen: Screen[Any], callback: Callable[[Any], None] | None = None) -> Any:
        """Open a dialog; the callback gets what it was answered."""
