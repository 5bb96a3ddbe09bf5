"""The state machine, checked exhaustively from its own tables: every type × every event, for runs and task runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
from flowdeck.engine.errors import NotAllowed
from flowdeck.engine.states.machine import (
    RUN_TABLE,
    TASK_TABLE,
    RunEvent,
    Target,
    TaskEvent,
    next_run_state,
    next_task_state,
)
from flowdeck.store.states import NAMES, STATE_TYPES, TERMINAL_TYPES, StateType, is_terminal
from hypothesis import given
from hypothesis import strategies as st

Table = dict[str, dict[str, Target]]

RUN_EVENTS: tuple[str, ...] = get_args(RunEvent)
TASK_EVENTS: tuple[str, ...] = get_args(TaskEvent)
RUN_START = Target("SCHEDULED", "Scheduled")
TASK_START = Target("PENDING", "Pending")
MACHINES = [
    pytest.param(RUN_TABLE, RUN_EVENTS, next_run_state, id="run"),
    pytest.param(TASK_TABLE, TASK_EVENTS, next_task_state, id="task"),
]
NOT_BY_THE_TABLE = {"AwaitingInput"}
"""Names in the vocabulary that no event gives yet: a run waiting for a form is Paused until forms exist."""

WAY_OUT_OF_A_RUN = {"retry", "resume_crashed"}
WAY_OUT_OF_A_TASK = {"run_again", "roll_back", "mark_completed", "mark_skipped"}


def reachable(table: Table, start: Target) -> set[Target]:
    """Every state some sequence of events leads to from ``start``."""
    seen, waiting = {start}, [start]
    while waiting:
        for target in table.get(waiting.pop().state_type, {}).values():
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def ends(table: Table, state: Target) -> bool:
    """Whether some sequence of events leads from ``state`` to an ending."""
    return any(is_terminal(*target) for target in reachable(table, state))


@pytest.mark.parametrize("state_type", STATE_TYPES)
@pytest.mark.parametrize(("table", "events", "step"), MACHINES)
def test_every_pair_gives_its_target_or_is_refused(
    table: Table, events: tuple[str, ...], step: Callable[[str, str], Target], state_type: str
) -> None:
    """Each type × event gives what the table says or raises NotAllowed, whose text names both: no third way."""
    for event in events:
        expected = table.get(state_type, {}).get(event)
        if expected is not None:
            assert step(state_type, event) == expected
            continue
        with pytest.raises(NotAllowed) as refused:
            step(state_type, event)
        assert state_type in str(refused.value)
        assert event.replace("_", " ") in str(refused.value)
        assert refused.value.exit_code == 4


@pytest.mark.parametrize(("table", "events", "step"), MACHINES)
def test_strangers_are_refused(table: Table, events: tuple[str, ...], step: Callable[[str, str], Target]) -> None:
    """An unknown type or event is refused like any other pair; nothing is allowed by default."""
    for state_type, event in (("RUNNING", "explode"), ("NOSUCH", events[0]), ("", ""), ("running", events[0])):
        with pytest.raises(NotAllowed):
            step(state_type, event)


@pytest.mark.parametrize(("table", "events", "step"), MACHINES)
def test_the_table_speaks_the_vocabulary(
    table: Table, events: tuple[str, ...], step: Callable[[str, str], Target]
) -> None:
    """Types and names are those of store.states; the events are exactly those declared, none unused or unknown."""
    assert set(table) <= set(STATE_TYPES)
    assert {event for row in table.values() for event in row} == set(events)
    assert len(events) == len(set(events))
    for row in table.values():
        for target in row.values():
            names: dict[StateType, tuple[str, ...]] = NAMES
            assert target.state_name in names[target.state_type]  # type: ignore[index]


def test_every_type_of_a_run_has_a_row() -> None:
    """A flow run can be in any of the nine types, and each has a way on."""
    assert set(RUN_TABLE) == set(STATE_TYPES)
    assert all(RUN_TABLE.values())


def test_every_state_is_reachable() -> None:
    """Every row of the tables, and every name of the vocabulary, can come about from a new run or task run."""
    runs, tasks = reachable(RUN_TABLE, RUN_START), reachable(TASK_TABLE, TASK_START)
    assert {target.state_type for target in runs} == set(RUN_TABLE)
    assert {target.state_type for target in tasks} == set(TASK_TABLE)
    known = {Target(state_type, name) for state_type, names in NAMES.items() for name in names}
    assert {target.state_name for target in known - runs - tasks} <= NOT_BY_THE_TABLE


def test_a_run_that_ended_is_left_only_by_a_retry_or_a_resume() -> None:
    """I2: one terminal state, left only by an action that is recorded as such; and never straight into RUNNING."""
    for state_type in TERMINAL_TYPES:
        assert set(RUN_TABLE[state_type]) <= WAY_OUT_OF_A_RUN
        assert {target.state_type for target in RUN_TABLE[state_type].values()} == {"SCHEDULED"}
    assert {kind for kind, row in RUN_TABLE.items() if "resume_crashed" in row} == {"CRASHED"}
    assert not any("retry" in row for kind, row in RUN_TABLE.items() if kind not in TERMINAL_TYPES)


def test_a_task_run_that_ended_is_left_only_by_the_next_attempt_of_its_run() -> None:
    """A finished task run changes when the run reaches its call anew, its effect is rolled back, a person decides."""
    for state_type in TERMINAL_TYPES:
        for event, target in TASK_TABLE[state_type].items():
            assert event in WAY_OUT_OF_A_TASK
            assert target == TASK_START if event == "run_again" else target.state_type == "COMPLETED"


def test_a_cancelled_run_cannot_end_otherwise() -> None:
    """Once cancelling, however its processes end, the run is Cancelled: no success or failure overtakes it."""
    assert RUN_TABLE["CANCELLING"] == {"cancel": Target("CANCELLED", "Cancelled")}


def test_whatever_may_hold_a_process_can_crash() -> None:
    """A killed process is recorded from every type that can own one; only CANCELLING turns death into Cancelled."""
    for state_type in ("SCHEDULED", "PENDING", "RUNNING", "PAUSED"):
        for event in ("crash", "run_out_of_memory", "reboot"):
            assert next_run_state(state_type, event).state_type == "CRASHED"


@pytest.mark.parametrize(("table", "start"), [(RUN_TABLE, RUN_START), (TASK_TABLE, TASK_START)], ids=["run", "task"])
def test_nothing_can_get_stuck(table: Table, start: Target) -> None:
    """From every state that can come about, an ending can still be reached."""
    assert all(is_terminal(*state) or ends(table, state) for state in reachable(table, start))


@given(st.lists(st.sampled_from(RUN_EVENTS), max_size=60))
def test_a_random_life_of_a_run_keeps_the_rules(events: list[str]) -> None:
    """Whatever is asked in whatever order: refused events change nothing, and each life after death was asked for."""
    state, endings, revivals = RUN_START, 0, 0
    for event in events:
        before = state
        try:
            state = next_run_state(state.state_type, event)
        except NotAllowed:
            assert event not in RUN_TABLE[before.state_type]
            continue
        was_over, is_over = before.state_type in TERMINAL_TYPES, state.state_type in TERMINAL_TYPES
        endings += is_over and not was_over
        if was_over:
            assert event in WAY_OUT_OF_A_RUN
            assert not is_over
            revivals += 1
        if before.state_type == "CANCELLING":
            assert state.state_type == "CANCELLED"
    assert endings - revivals == (state.state_type in TERMINAL_TYPES)


@given(st.lists(st.sampled_from(TASK_EVENTS), max_size=60))
def test_a_random_life_of_a_task_run_keeps_the_rules(events: list[str]) -> None:
    """A task run is replaced by its run's next attempt only; Completed is never overtaken by a failure."""
    state = TASK_START
    for event in events:
        before = state
        try:
            state = next_task_state(state.state_type, event)
        except NotAllowed:
            assert event not in TASK_TABLE.get(before.state_type, {})
            continue
        if before.state_type in TERMINAL_TYPES:
            assert event in WAY_OUT_OF_A_TASK
        if before.state_type == "COMPLETED":
            assert state.state_type in {"COMPLETED", "PENDING"}
