"""When a failed attempt is tried again and after how long; tenacity decides, nothing here sleeps.

``retries`` counts attempts after the first. ``retry_delay_seconds`` is a number, a list (the last one repeats), a
callable ``retries -> list`` (``exponential_backoff``) or a tenacity wait object. ``retry_condition_fn(task, run,
state) -> bool`` or a tenacity retry object may refuse; an exception inside it means no retry. tenacity is imported
at the first failure of something that has retries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from .errors import UsageError

MAX_DELAYS = 50
"""Prefect's bound on a list of delays."""

Delay = float | int | Iterable[float] | Callable[[int], Iterable[float]] | Any


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """A ``retry_delay_seconds`` of ``backoff_factor * 2**i`` seconds before the i-th retry (Prefect's)."""

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**i for i in range(min(retries, MAX_DELAYS))]

    return delays


class RetryPolicy:
    """The retry options of one flow or task; immutable and shared by all its runs."""

    __slots__ = ("_delays", "_wait", "condition", "jitter_factor", "retries")

    def __init__(
        self,
        retries: int = 0,
        delay: Delay = 0,
        jitter_factor: float | None = None,
        condition: Any = None,
        *,
        what: str = "task",
    ) -> None:
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise UsageError(f"{what}: retries must be a whole number from 0, not {retries!r}")
        if jitter_factor is not None and jitter_factor < 0:
            raise UsageError(f"{what}: retry_jitter_factor must be 0 or more, not {jitter_factor!r}")
        self.retries = retries
        self.jitter_factor = jitter_factor
        self.condition = condition
        self._wait: Any = None
        self._delays: tuple[float, ...] = ()
        if callable(delay) and _is_tenacity(delay):
            self._wait = delay
        else:
            self._delays = _as_delays(delay, retries, what)

    def next_delay(
        self, attempt: int, error: BaseException, elapsed_seconds: float, context: tuple[Any, Any, Any]
    ) -> float | None:
        """Seconds until the next attempt after the ``attempt``-th (from 1) failed; None when there is none.

        ``context`` is (flow or task, run, state), what a ``retry_condition_fn`` is given.
        """
        if attempt > self.retries:
            return None
        import tenacity

        call = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # only its outcome is read
        call.attempt_number = attempt
        call.set_exception((type(error), error, error.__traceback__))
        call.start_time = call.outcome_timestamp - elapsed_seconds  # type: ignore[operator]
        if tenacity.stop_after_attempt(self.retries + 1)(call) or not self._wanted(call, context):
            return None
        return max(0.0, float(self._wait_object(attempt)(call)))

    def _wanted(self, call: Any, context: tuple[Any, Any, Any]) -> bool:
        if self.condition is None:
            return True
        return bool(self.condition(call) if _is_tenacity(self.condition) else self.condition(*context))

    def _wait_object(self, attempt: int) -> Any:
        if self._wait is not None:
            return self._wait
        import tenacity

        base = self._delays[min(attempt, len(self._delays)) - 1] if self._delays else 0.0
        if not self.jitter_factor or not base:
            return tenacity.wait_fixed(base)
        spread = base * self.jitter_factor
        return tenacity.wait_random(max(0.0, base - spread / (1 + self.jitter_factor)), base + spread)


def _is_tenacity(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "tenacity"


def _as_delays(delay: Delay, retries: int, what: str) -> tuple[float, ...]:
    if delay is None:
        return ()
    values = delay(retries) if callable(delay) else delay
    if isinstance(values, (int, float)) and not isinstance(values, bool):
        values = [values]
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UsageError(
            f"{what}: retry_delay_seconds must be a number of seconds, a list of them or a function that makes one, "
            f"not {delay!r}"
        )
    delays = tuple(values)
    if len(delays) > MAX_DELAYS:
        raise UsageError(f"{what}: at most {MAX_DELAYS} retry delays can be given, not {len(delays)}")
    for value in delays:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < inf:
            raise UsageError(f"{what}: a retry delay must be a number of seconds from 0, not {value!r}")
    return tuple(float(value) for value in delays)
