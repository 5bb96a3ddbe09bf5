"""Door from authoring to sdk.serving: ``flow.serve()`` and ``flow.to_deployment()``.

Their player knows flows and the daemon, and is imported when one of them is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..control.deployable import Deployment


class Serving(Protocol):
    """Having a script be the daemon of its own flows."""

    @property
    def to_deployment(self) -> Callable[..., Deployment]:
        """(flow, name, options) → the flow under a name of its own, with its own schedules, parameters and tags."""

    def serve(self, *deployments: Deployment, limit: int | None = None) -> None:
        """Be the daemon of these until SIGINT or SIGTERM; at most ``limit`` runs at once."""


def serving() -> Serving:
    """Who serves."""
    from ..sdk import serving as player

    return player
