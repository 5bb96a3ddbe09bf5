"""How far a run's tasks are: what bars and the list's TASKS column are made of."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """How far a run's tasks are."""

    done: int
    total: int
    failed: int
    running: int
