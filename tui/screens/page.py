"""What every place of the console has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.containers import Vertical

from ...store.rows import RunRow
from ..actions import Place
from ..shell import NodeAt, Shell

if TYPE_CHECKING:
    from ..look.spans import Spans
    from ..models.news import News


class Page(Vertical):
    """A place: it takes news, says what it is, and which runs the verbs act on."""

    DEFAULT_CSS = "Page { height: 1fr; width: 1fr; }"
    place: Place

    @property
    def shell(self) -> Shell:
        """The app, by what a place may ask of it."""
        return cast("Shell", self.app)

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

    def flow_at_cursor(self) -> str:
        """The flow or deployment that would be triggered here; empty when there is none."""
        targets = self.targets()
        return (targets[0].deployment or targets[0].flow_name) if targets else ""

    def perform(self, action_id: str) -> bool:
        """Do an action of this place; False when it is none of this page's."""
        del action_id
        return False

    def back(self) -> bool:
        """Undo one thing (marks, filter); False when there is nothing and the page itself is to be left."""
        return False

    def take_focus(self) -> None:
        """Put the keys where they are of most use."""
