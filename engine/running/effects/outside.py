"""Where no run is around: what performs the steps of slots that a script takes, and of transactions that it opens.

Nothing pauses what waits here or tells it to end, and there are no threads to lend; what only a run has is refused.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from ...errors import MissingContextError
from .gate import Gate

if TYPE_CHECKING:
    from .host import Host


class _NoThreads:
    """In the place of a run's pool."""

    def lending(self) -> AbstractContextManager[None]:
        """Nobody waits for the thread that waits here."""
        return nullcontext()


class _Outside:
    """Plays the host of no run. Its gate is always open: nobody knows it."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.pool: Any = _NoThreads()

    def __getattr__(self, name: str) -> Any:
        raise MissingContextError(f"{name} needs a run around it; call it inside a @flow or @task function")


OUTSIDE: Final[Host] = _Outside()
