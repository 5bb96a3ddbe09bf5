"""Prefect 1's triggers: whether a task runs, given how everything before it ended.

A trigger is a function of ``{edge: state}``, called once all of that has finished; it returns whether to run, or
raises a signal that says why not. A skipped task counts as successful, one whose trigger was not met as failed; a
mapped task counts with each of its runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .context import context
from .signals import PAUSE, SKIP, TRIGGERFAIL
from .states import FlowState

__all__ = [
    "all_failed", "all_finished", "all_successful", "always_run", "any_failed", "any_successful", "manual_only",
    "not_all_skipped", "some_failed", "some_successful",
]

Upstream = Mapping[Any, FlowState]
Trigger = Callable[[Upstream], bool]


def _every(upstream_states: Upstream) -> list[tuple[str, FlowState]]:
    """(name of the task, state) of everything before, mapped groups run by run."""
    found = []
    for edge, state in upstream_states.items():
        name = getattr(getattr(edge, "upstream_task", None), "name", "a task")
        if state.map_states is not None:
            found += [(f"{name}[{index}]", one) for index, one in enumerate(state.map_states)]
        else:
            found.append((name, state))
    return found


def _unmet(trigger: str, but: str, those: list[tuple[str, FlowState]]) -> TRIGGERFAIL:
    shown = ", ".join(f"{name} ended {state.name}" for name, state in those[:3])
    more = f" and {len(those) - 3} more" if len(those) > 3 else ""
    return TRIGGERFAIL(f'Trigger was "{trigger}" but {but}' + (f": {shown}{more}" if shown else ""))


def all_successful(upstream_states: Upstream) -> bool:
    """Run if everything before succeeded or was skipped. The default."""
    bad = [(name, state) for name, state in _every(upstream_states) if not state.is_successful()]
    if bad:
        raise _unmet("all_successful", "some of the upstream tasks failed", bad)
    return True


def all_failed(upstream_states: Upstream) -> bool:
    """Run if everything before failed."""
    good = [(name, state) for name, state in _every(upstream_states) if not state.is_failed()]
    if good:
        raise _unmet("all_failed", "some of the upstream tasks succeeded", good)
    return True


def any_successful(upstream_states: Upstream) -> bool:
    """Run if something before succeeded, or nothing comes before."""
    every = _every(upstream_states)
    if every and not any(state.is_successful() for _, state in every):
        raise _unmet("any_successful", "none of the upstream tasks succeeded", every)
    return True


def any_failed(upstream_states: Upstream) -> bool:
    """Run if something before failed, or nothing comes before."""
    every = _every(upstream_states)
    if every and not any(state.is_failed() for _, state in every):
        raise _unmet("any_failed", "none of the upstream tasks failed", [])
    return True


def all_finished(upstream_states: Upstream) -> bool:
    """Run however everything before ended."""
    left = [(name, state) for name, state in _every(upstream_states) if not state.is_finished()]
    if left:
        raise _unmet("all_finished", "some of the upstream tasks were not finished", left)
    return True


always_run = all_finished


def manual_only(upstream_states: Upstream) -> bool:  # noqa: ARG001 - what every trigger is given
    """Run once a person has resumed the run, which pauses here."""
    if context.get("resume"):
        return True
    raise PAUSE('Trigger function is "manual_only"')


def not_all_skipped(upstream_states: Upstream) -> bool:
    """Run if everything before succeeded and something of it was not skipped; skip if all of it was."""
    every = _every(upstream_states)
    if all(state.is_skipped() for _, state in every):
        raise SKIP("All upstreams were skipped")
    bad = [(name, state) for name, state in every if not state.is_successful()]
    if bad:
        raise _unmet("not_all_skipped", "some of the upstream tasks failed", bad)
    return True


def some_failed(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Run if so many before failed: a number, or below 1 a share."""
    return _counting("some_failed", FlowState.is_failed, at_least, at_most)


def some_successful(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Run if so many before succeeded: a number, or below 1 a share."""
    return _counting("some_successful", FlowState.is_successful, at_least, at_most)


def _counting(
    name: str, counts: Callable[[FlowState], bool], at_least: float | None, at_most: float | None
) -> Trigger:
    def trigger(upstream_states: Upstream) -> bool:
        every = _every(upstream_states)
        if not every:
            return True
        number = sum(1 for _, state in every if counts(state))
        least = 0 if at_least is None else at_least * len(every) if at_least < 1 else at_least
        most = len(every) if at_most is None else at_most * len(every) if at_most < 1 else at_most
        if not least <= number <= most:
            word = "failed" if name == "some_failed" else "succeeded"
            raise _unmet(name, f"thresholds were not met ({number} of {len(every)} {word})", [])
        return True

    trigger.__name__ = trigger.__qualname__ = name
    return trigger
