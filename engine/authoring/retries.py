"""When a failed attempt is tried again and after how long; tenacity decides, nothing here sleeps.

``retries`` counts attempts after the first, or is a tenacity stop object. ``retry_delay_seconds`` is a number, a list
(the last one repeats), a callable ``retries -> list`` (``exponential_backoff``) or a tenacity wait object.
``retry_jitter_factor`` f makes each delay a random one between ``delay / (1 + f)`` and ``delay * (1 + f)``.
``retry_condition_fn(task, run, state) -> bool`` or a tenacity retry object may refuse; an exception inside it means
no retry. tenacity is imported at the first failure of something that has retries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Literal, NamedTuple

from ..errors import UsageError

MAX_DELAYS = 50
"""Prefect's bound on a list of delays."""

Delay = float | int | Iterable[float] | Callable[[int], Iterable[float]] | Any


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """A ``retry_delay_seconds`` of ``backoff_factor * 2**i`` seconds before the i-th retry (Prefect's)."""

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**i for i in range(min(retries, MAX_DELAYS))]

    return delays


class Verdict(NamedTuple):
    """What follows a failed attempt."""

    kind: Literal["again", "hold", "end"]
    """Another attempt, a pause until a person says what to do, or the end."""
    delay_seconds: float = 0.0


class RetryPolicy:
    """The retry options of one flow or task; immutable and shared by all its runs."""

    __slots__ = ("_delays", "_stop", "_wait", "condition", "crash_retries", "jitter_factor", "pauses", "retries")

    def __init__(
        self,
        retries: Any = 0,
        delay: Delay = 0,
        jitter_factor: float | None = None,
        condition: Any = None,
        *,
        what: str = "task",
        crash_retries: int = 0,
        on_exhausted: str | None = None,
    ) -> None:
        self._stop: Any = None
        if _is_tenacity(retries, "stop"):
            self._stop, retries = retries, MAX_DELAYS
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise UsageError(
                f"{what}: retries must be a whole number from 0 or a tenacity stop object, not {retries!r}"
            )
        if isinstance(crash_retries, bool) or not isinstance(crash_retries, int) or crash_retries < 0:
            raise UsageError(f"{what}: crash_retries must be a whole number from 0, not {crash_retries!r}")
        if on_exhausted not in (None, "fail", "pause"):
            raise UsageError(f"{what}: on_exhausted must be 'fail' or 'pause', not {on_exhausted!r}")
        self.retries: int = retries
        """The most there can be; with a tenacity stop object, that one decides."""
        self.crash_retries = crash_retries
        self.pauses = on_exhausted == "pause"
        """Whether a run whose retries have run out is held for a person."""
        self.jitter_factor = _checked_jitter(jitter_factor, what)
        self.condition = _checked_condition(condition, what)
        self._wait: Any = None
        self._delays: tuple[float, ...] = ()
        if _is_tenacity(delay, "wait"):
            self._wait = delay
        elif _from_tenacity(delay):
            raise UsageError(f"{what}: of tenacity, retry_delay_seconds takes a wait object, not {delay!r}")
        else:
            self._delays = _as_delays(delay, retries, what)

    def verdict(
        self, attempt: int, error: BaseException, elapsed_seconds: float, context: tuple[Any, Any, Any]
    ) -> Verdict:
        """What follows after the ``attempt``-th attempt (from 1) failed.

        ``context`` is (flow or task, run, state), what a ``retry_condition_fn`` is given.
        """
        is_last = self._stop is None and attempt > self.retries
        if is_last and not self.pauses:
            return Verdict("end")
        import tenacity

        call = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # only its outcome is read
        call.attempt_number = attempt
        call.set_exception((type(error), error, error.__traceback__))
        call.start_time = call.outcome_timestamp - elapsed_seconds  # type: ignore[operator]
        if not self._wanted(call, context):
            return Verdict("end")
        if is_last:
            return Verdict("hold")
        delay = self._jittered(max(0.0, float(self._wait_object(attempt)(call))), call)
        call.upcoming_sleep = delay  # what stop_before_delay looks at
        stop = self._stop if self._stop is not None else tenacity.stop_after_attempt(self.retries + 1)
        if stop(call):
            return Verdict("hold" if self.pauses else "end")
        return Verdict("again", delay)

    def _wanted(self, call: Any, context: tuple[Any, Any, Any]) -> bool:
        if self.condition is None:
            return True
        return bool(self.condition(call) if _from_tenacity(self.condition) else self.condition(*context))

    def _wait_object(self, attempt: int) -> Any:
        if self._wait is not None:
            return self._wait
        import tenacity

        return tenacity.wait_fixed(self._delays[min(attempt, len(self._delays)) - 1] if self._delays else 0.0)

    def _jittered(self, delay: float, call: Any) -> float:
        if not self.jitter_factor or not delay:
            return delay
        import tenacity

        spread = 1 + self.jitter_factor
        return float(tenacity.wait_random(delay / spread, delay * spread)(call))


def _from_tenacity(value: Any) -> bool:
    """Whether it is an object of tenacity's own, or of a user's class made from one of its classes."""
    return any(kind.__module__.split(".")[0] == "tenacity" for kind in type(value).__mro__)


def _is_tenacity(value: Any, kind: str) -> bool:
    """Whether it is a tenacity ``stop``, ``wait`` or ``retry`` object; asked without loading tenacity."""
    # Another thread may be loading it at this moment: a value of a class that is not there yet cannot exist.
    base = getattr(sys.modules.get(f"tenacity.{kind}"), f"{kind}_base", None)
    return base is not None and isinstance(value, base)


def _checked_jitter(factor: Any, what: str) -> float | None:
    if factor is None:
        return None
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 <= factor < inf:
        raise UsageError(f"{what}: retry_jitter_factor must be a number from 0, not {factor!r}")
    return float(factor)


def _checked_condition(condition: Any, what: str) -> Any:
    if condition is None:
        return None
    if _from_tenacity(condition) and not _is_tenacity(condition, "retry"):
        raise UsageError(f"{what}: of tenacity, retry_condition_fn takes a retry object, not {condition!r}")
    if not callable(condition):
        raise UsageError(
            f"{what}: retry_condition_fn must be a function of task, run and state, or a tenacity retry object, "
            f"not {condition!r}"
        )
    waiting = [condition]
    while waiting:
        one = waiting.pop()
        if type(one).__name__ in ("retry_if_result", "retry_if_not_result") and _from_tenacity(one):
            raise UsageError(
                f"{what}: {type(one).__name__} looks at what a task returned, but only failed attempts are tried "
                "again; raise an exception, or return Failed(), where the value is not good enough"
            )
        if _from_tenacity(one):
            waiting += getattr(one, "retries", ())
    return condition


def _as_delays(delay: Delay, retries: int, what: str) -> tuple[float, ...]:
    if delay is None:
        return ()
    values = delay(retries) if callable(delay) else delay
    if isinstance(values, (int, float)) and not isinstance(values, bool):
        values = [values]
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UsageError(
            f"{what}: retry_delay_seconds must be a number of seconds, a list of them, a function that makes one or a "
            f"tenacity wait object, not {delay!r}"
        )
    delays = tuple(values)
    if len(delays) > MAX_DELAYS:
        raise UsageError(f"{what}: at most {MAX_DELAYS} retry delays can be given, not {len(delays)}")
    for value in delays:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < inf:
            raise UsageError(f"{what}: a retry delay must be a number of seconds from 0, not {value!r}")
    return tuple(float(value) for value in delays)
