"""Prefect 1's states as users meet them: the result of a run, state handlers, reference tasks, the context."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flowdeck import Flow, Parameter, Task, context, flow, signals, state, tags, task, triggers
from flowdeck.state import Cancelled, Failed, Mapped, Paused, Pending, Retrying, Running, Skipped, Success, TimedOut
from flowdeck.store.reader import Reader

pytestmark = pytest.mark.usefixtures("store")


@task
def one() -> int:
    return 1


@task
def fails() -> None:
    raise ValueError("no luck")


def names(*states: Any) -> list[str]:
    return [type(one_of).__name__ for one_of in states]


# -- states ------------------------------------------------------------------------------------------------------------


def test_the_tree_of_states() -> None:
    """Subclasses say what counts as what, and each has a colour."""
    assert issubclass(Skipped, Success)
    assert issubclass(TimedOut, Failed)
    assert issubclass(Retrying, state.Scheduled)
    assert issubclass(Paused, Pending)
    assert all(getattr(state, name).color.startswith("#") for name in state.__all__)
    skipped, failed = Skipped("why", result=None), Failed("broke", result=ValueError("x"))
    assert (skipped.is_successful(), skipped.is_skipped(), skipped.is_finished(), skipped.is_failed()) == (
        True, True, True, False,
    )  # fmt: skip
    assert (failed.is_failed(), failed.is_finished(), type(failed.result), failed.message) == (
        True, True, ValueError, "broke",
    )  # fmt: skip
    assert (Running().is_running(), Pending().is_pending(), Retrying().is_retrying()) == (True, True, True)
    assert (Retrying().is_pending(), Retrying().is_scheduled(), Success().is_cached()) == (True, True, False)
    assert (Cancelled().is_finished(), Cancelled().is_failed(), Cancelled().is_successful()) == (True, False, False)
    assert repr(failed) == '<Failed: "broke">'


def test_the_state_of_a_flow() -> None:
    """``result`` has every task, each with its value or exception; the message says what decided."""
    with Flow("states") as drawn:
        good, bad = one(), fails()
        mapped = task(lambda x: 1 / x, name="invert").map([1, 0])
    ended = drawn.run()
    assert isinstance(ended, Failed)
    assert "2 of 3 reference tasks did not succeed: fails ended Failed (ValueError: no luck)" in ended.message
    assert set(ended.result) == {good, bad, mapped}
    assert isinstance(ended.result[bad].result, ValueError)
    assert names(*ended.result[mapped].map_states) == ["Success", "Failed"]
    assert isinstance(ended.result[mapped].result[1], ZeroDivisionError)
    assert ended.result[mapped].is_mapped()


def test_a_task_may_return_a_state() -> None:
    """Of either style; it decides, and its result goes on."""
    with Flow("returned") as drawn:
        success = task(lambda: Success("fine", result=7), name="success")()
        skipped = task(lambda: Skipped("not me"), name="skipped")()
        failed = task(lambda: Failed("by choice"), name="failed")()
        after = task(lambda x: x * 2, name="after")(success)
    result = drawn.run().result
    assert names(*(result[node] for node in (success, skipped, failed))) == ["Success", "Skipped", "Failed"]
    assert (result[success].message, result[failed].message, result[after].result) == ("fine", "by choice", 14)


def test_a_graph_flow_within_a_flow() -> None:
    """Called by a ``@flow`` it is a subflow; its failure is raised as any subflow's."""
    with Flow("inner") as inner:
        task(lambda x: x + 1, name="plus")(Parameter("x"))

    @flow
    def outer() -> str:
        return inner(x=1, return_state=True).name

    assert outer() == "Completed"


# -- reference tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "kind"), [(["good"], Success), (["bad"], Failed), (["good", "bad"], Failed), ([], Failed)]
)
def test_reference_tasks_decide(reader: Reader, chosen: list[str], kind: type) -> None:
    """Whatever the others did; without any the last ones do. The record says the same."""
    with Flow("reference") as drawn:
        nodes = {"good": one(), "bad": fails()}
    drawn.set_reference_tasks([nodes[name] for name in chosen])
    assert drawn.reference_tasks() == ({nodes[name] for name in chosen} or set(nodes.values()))
    assert type(drawn.run()) is kind
    assert reader.runs()[0].state_type == ("COMPLETED" if kind is Success else "FAILED")


def test_a_clean_up_hides_no_failure_when_it_is_no_reference() -> None:
    """The usual shape: the end always runs, the work decides."""
    with Flow("clean") as drawn:
        work = fails()
        Task(name="end", trigger=triggers.always_run)(upstream_tasks=[work])
    assert drawn.run().is_successful()
    drawn.set_reference_tasks([work])
    assert drawn.run().is_failed()


# -- state handlers ----------------------------------------------------------------------------------------------------


def test_task_state_handlers_see_every_change() -> None:
    """Begun, ended, failed and tried again, skipped and not begun at all."""
    seen: dict[str, list[str]] = {}

    def watch(subject: Any, old: Any, new: Any) -> None:
        seen.setdefault(subject.name, []).append("→".join(names(old, new)))

    def tried_twice() -> None:
        if context.task_run_count == 1:
            raise ValueError("first")

    watched = {"state_handlers": [watch]}
    with Flow("watched") as drawn:
        task(lambda: 1, name="good", **watched)()
        task(tried_twice, name="again", max_retries=1, retry_delay=timedelta(0), **watched)()
        bad = task(fails.fn, name="bad", **watched)()
        task(lambda x: x, name="after", **watched)(bad)
        task(lambda x: x, name="skipped", **watched)(task(lambda: Skipped(), name="skip")())
    drawn.run()
    assert seen == {
        "good": ["Pending→Running", "Running→Success"],
        "again": ["Pending→Running", "Running→Failed", "Failed→Retrying", "Retrying→Running", "Running→Success"],
        "bad": ["Pending→Running", "Running→Failed"],
        "after": ["Pending→TriggerFailed"],
        "skipped": ["Pending→Skipped"],
    }


def test_a_state_handler_may_put_another_state(reader: Reader) -> None:
    """Failed becomes Success with a value, Running becomes Skipped and the code does not run; the record agrees."""
    ran: list[str] = []

    def forgive(_task: Any, _old: Any, new: Any) -> Any:
        return Success("forgiven", result=-1) if new.is_failed() else new

    def never(_task: Any, _old: Any, new: Any) -> Any:
        return Skipped("not wanted") if new.is_running() else new

    with Flow("changed") as drawn:
        bad = task(fails.fn, name="bad", state_handlers=[forgive])()
        after = task(lambda x: x * 2, name="after")(bad)
        not_run = task(lambda: ran.append("x"), name="not run", state_handlers=[never])()
    ended = drawn.run()
    assert (ended.result[bad].message, ended.result[after].result) == ("forgiven", -2)
    assert isinstance(ended.result[not_run], Skipped)
    assert ran == []
    rows = {row.name: row.state_name for row in reader.tasks(reader.runs()[0].id)}
    assert rows == {"bad": "Completed", "after": "Completed", "not run": "Skipped"}


def test_a_broken_state_handler_fails_its_task() -> None:
    """In words; a signal in it is obeyed; what is no state is refused."""

    def breaks(*_: Any) -> None:
        raise KeyError("oops")

    def skips(_task: Any, _old: Any, new: Any) -> None:
        if new.is_running():
            raise signals.SKIP("by handler")

    with Flow("broken") as drawn:
        broken = task(one.fn, name="broken", state_handlers=[breaks])()
        skipped = task(one.fn, name="skipped", state_handlers=[skips])()
        odd = task(one.fn, name="odd", state_handlers=[lambda *_: "done"])()
        refused = task(lambda x: x, name="refused", state_handlers=[breaks])(broken)
    result = drawn.run().result
    kinds = names(*(result[node] for node in (broken, skipped, odd, refused)))
    assert kinds == ["Failed", "Skipped", "Failed", "Failed"]
    assert "KeyError" in result[broken].message
    assert "no state" in result[odd].message
    assert "calling state handlers" in result[refused].message


def test_async_tasks_have_handlers_too() -> None:
    """One path for both."""
    seen: list[str] = []

    async def fetch() -> int:
        return 3

    with Flow("async") as drawn:
        node = task(fetch, state_handlers=[lambda _t, old, new: seen.extend(names(old, new))])()
    assert drawn.run().result[node].result == 3
    assert seen == ["Pending", "Running", "Running", "Success"]


def test_on_failure_in_prefect_1_words() -> None:
    """``on_failure=function(task_or_flow, state)``, for tasks at each failed attempt, for flows at the end."""
    told: list[str] = []

    def note(subject: Any, failed: Any) -> None:
        told.append(f"{subject.name}: {failed.message}")

    with Flow("noted", on_failure=note) as drawn:
        task(fails.fn, name="bad", max_retries=1, retry_delay=timedelta(0), on_failure=note)()
        task(one.fn, name="good", on_failure=note)()
    drawn.run()
    assert told[:2] == ["bad: ValueError: no luck"] * 2
    assert told[2].startswith("noted: 1 of 2 reference tasks")
    assert len(told) == 3


def test_flow_state_handlers_and_the_terminal_one() -> None:
    """A flow's changes are told as its tasks' are; the terminal handler sees the reference tasks and may decide."""
    seen: list[str] = []

    def watch(subject: Any, old: Any, new: Any) -> None:
        seen.append(f"{subject.name}: {'→'.join(names(old, new))}")

    def lenient(_flow: Any, ended: Any, reference: set[Any]) -> Any:
        bad = [one_of for one_of in reference if one_of.is_failed()]
        return Success(f"{len(bad)} failures are fine") if ended.is_failed() and len(bad) < 2 else None

    with Flow("handled", state_handlers=[watch], terminal_state_handler=lenient) as drawn:
        one()
        fails()
    assert drawn.run().message == "1 failures are fine"
    with drawn:
        fails()
    assert drawn.run().is_failed()
    assert seen == ["handled: Pending→Running", "handled: Running→Success", "handled: Pending→Running",
                    "handled: Running→Failed"]  # fmt: skip


def test_a_flow_handler_may_keep_it_from_running() -> None:
    """What it puts in the place of Running is the flow's state."""
    ran: list[int] = []
    with Flow("kept", state_handlers=[lambda _f, _o, new: Skipped("holiday") if new.is_running() else new]) as drawn:
        task(lambda: ran.append(1), name="work")()
    ended = drawn.run()
    assert (names(ended), ended.message, ran) == (["Skipped"], "holiday", [])


# -- the context -------------------------------------------------------------------------------------------------------


def test_the_context_of_a_task(reader: Reader) -> None:
    """Its run, its flow, its own name and place, the parameters, the day."""
    wanted = ["flow_name", "flow_run_id", "parameters", "task_name", "task_run_id", "task_run_count", "task_tags",
              "today", "yesterday", "tomorrow", "today_nodash"]  # fmt: skip

    @task(tags=["mine"])
    def look() -> dict[str, Any]:
        assert context.get("map_index") is None
        assert "task_loop_count" not in context
        context.logger.info("seen")
        return {name: context[name] for name in wanted} | {"date": context.date}

    with Flow("context") as drawn:
        Parameter("x", default=1)
        node = look()
        indexes = task(lambda _: context.map_index, name="index").map([1, 2])
    with tags("outer"):
        ended = drawn.run(x=5)
    seen = ended.result[node].result
    now = datetime.now(UTC)
    assert abs(now - seen.pop("date")) < timedelta(minutes=5)
    assert seen["today"] in (f"{now:%Y-%m-%d}", f"{now - timedelta(minutes=5):%Y-%m-%d}")
    assert seen["today_nodash"] == seen["today"].replace("-", "")
    assert datetime.fromisoformat(seen["tomorrow"]) - datetime.fromisoformat(seen["yesterday"]) == timedelta(days=2)
    assert (seen["flow_name"], seen["flow_run_id"], seen["parameters"]) == ("context", 1, {"x": 5})
    assert (seen["task_name"], seen["task_run_id"], seen["task_run_count"]) == ("look", "1/1", 1)
    assert seen["task_tags"] >= {"mine"}
    assert ended.result[indexes].result == [0, 1]


def test_values_added_to_the_context() -> None:
    """By ``flow.run(context=…)`` and ``with context(…)``; gone afterwards."""
    with Flow("added") as drawn:
        node = task(lambda: (context.colour, context.get("size"), context.get("weight", 7)), name="see")()
    with context(size=3):
        assert drawn.run(context={"colour": "red"}).result[node].result == ("red", 3, 7)
        assert context.size == 3
    assert "size" not in context
    with pytest.raises(AttributeError, match="no 'size'"):
        _ = context.size
    with pytest.raises(AttributeError, match="'today' outside a run"):
        _ = context.today


def test_mapped_states_are_mapped_class_when_all_is_well() -> None:
    """``Mapped`` is a success; a group with a failure is shown as failed, so that nothing is hidden."""
    with Flow("group") as drawn:
        good = task(lambda x: x, name="good").map([1, 2])
        bad = task(lambda x: 1 / x, name="bad").map([1, 0])
    result = drawn.run().result
    assert (type(result[good]), type(result[bad])) == (Mapped, Failed)
