"""What every place of the console has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from textual.containers import Vertical

from ...store.rows import RunRow
from ..actions import Place

if TYPE_CHECKING:
    from ...store.tables.nodes import Node
    from ..console import Console
    from ..feed.news import News
    from ..widgets.rows import Spans


class NodeAt(NamedTuple):
    """A part of a run tree under the cursor."""

    node: Node
    label: str
    """``load[3] (42/7)``: raw text from the store inside."""
    unfinished: int
    """How many calls of it have not ended."""


class Page(Vertical):
    """A place: it takes news, says what it is, and which runs the verbs act on."""

    DEFAULT_CSS = "Page { height: 1fr; width: 1fr; }"
    place: Place

    @property
    def console_app(self) -> Console:
        """The app, by its type."""
        from ..console import Console

        assert isinstance(self.app, Console)
        return self.app

    def receive(self, news: News) -> None:
        """Take what concerns this page."""

    def shown(self) -> None:
        """The page came into sight."""

    def hidden(self) -> None:
        """The page went out of sight."""

    def tick(self, now_us: int) -> None:
        """A second went by."""

    def trail(self) -> Spans:
        """Where we are, for the header."""
        return ()

    def targets(self) -> list[RunRow]:
        """The runs that verbs act on."""
        return []

    def node(self) -> NodeAt | None:
        """The part of a run at the cursor, where the page shows parts."""
        return None

    def perform(self, action_id: str) -> bool:
        """Do an action of this place; False when it is none of this page's."""
        del action_id
        return False

    def back(self) -> bool:
        """Undo one thing (marks, filter); False when there is nothing and the page itself is to be left."""
        return False

    def take_focus(self) -> None:
        """Put the keys where they are of most use."""
