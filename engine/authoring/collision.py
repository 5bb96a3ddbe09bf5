"""What becomes of a run that finds its flow's limit reached: the options of ``@flow`` that say it."""

from __future__ import annotations

from typing import Final

from ..errors import UsageError

STRATEGIES: Final = ("ENQUEUE", "CANCEL_NEW")


def check_collision(flow: str, limit: object, strategy: object) -> None:
    """Refuse a ``concurrency_limit`` or ``collision_strategy`` that makes no sense, in words."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UsageError(f"flow {flow!r}: concurrency_limit is a whole number from 1, not {limit!r}")
    if strategy not in (None, *STRATEGIES):
        raise UsageError(f"flow {flow!r}: collision_strategy is {' or '.join(map(repr, STRATEGIES))}, not {strategy!r}")
    if strategy is not None and limit is None:
        raise UsageError(f"flow {flow!r}: collision_strategy={strategy!r} needs a concurrency_limit")
