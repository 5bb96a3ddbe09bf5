"""What a flow's run comes to: Prefect's rules for its final state, with Prefect's words."""

from __future__ import annotations

import flowdeck
import pytest
from flowdeck import Completed, Failed, State, flow, get_run_logger, tags, task
from flowdeck.engine.errors import MissingContextError, ParameterError, RunFailed, UsageError


@task
def good(x=1):
    return x


@task
def bad(text="boom"):
    raise ValueError(text)


@task
def stopped():
    return State("CANCELLED", message="not needed")


def ending(reader):
    """Type, name and cause of the newest run."""
    run = reader.find("@last")
    return run.state_type, run.state_name, run.cause


def test_a_flow_returns_its_value_and_is_completed(reader) -> None:
    """The result's preview and the flow's description are kept, too."""

    @flow
    def simple(x: int, y: str = "z"):
        """Says things."""
        return {"x": x, "y": y}

    assert simple("3") == {"x": 3, "y": "z"}
    run = reader.find("@last")
    assert (run.state_type, run.state_name, run.flow_name) == ("COMPLETED", "Completed", "simple")
    assert run.result_preview == "{'x': 3, 'y': 'z'}"
    assert run.parameters == '{"x": "3", "y": "z"}'
    assert run.started_at_us <= run.ended_at_us
    assert run.duration_us > 0
    assert reader.flows()[0].description == "Says things."
    assert reader.leases() == []


def test_an_exception_fails_the_flow(reader) -> None:
    """It is raised to the caller as it was; the cause is in the record, the traceback in the log without our frames."""

    @flow
    def failing():
        def deep():
            raise KeyError("inner")
        try:
            deep()
        except KeyError as error:
            raise ValueError("outer") from error

    with pytest.raises(ValueError, match="outer"):
        failing()
    assert ending(reader) == ("FAILED", "Failed", "ValueError: outer")
    text = "\n".join(row.message for row in reader.logs(1))
    assert "KeyError: 'inner'" in text
    assert "direct cause" in text
    assert "in deep" in text
    assert "engine/running/effects/effects.py" not in text


def test_a_returned_state_decides(reader) -> None:
    """Whatever its name."""

    @flow
    def named():
        return Completed(message="nothing to do", name="Idle", data=5)

    @flow
    def refused():
        return Failed(message="no")

    assert named() == 5
    assert ending(reader)[:2] == ("COMPLETED", "Idle")
    with pytest.raises(RunFailed, match="no"):
        refused()
    assert ending(reader) == ("FAILED", "Failed", "no")


@pytest.mark.parametrize(
    ("calls", "wanted"),
    [
        ([good, bad, bad], ("FAILED", "Failed", "2/3 states failed. First: ValueError: boom")),
        ([good, good, stopped], ("CANCELLED", "Cancelled", "1/3 states cancelled.")),
        ([good, good], ("COMPLETED", "Completed", None)),
    ],
)
def test_returned_futures_decide_together(reader, calls, wanted) -> None:
    """``2/3 states failed.``"""

    @flow
    def together():
        return [call.submit() for call in calls]

    state = together(return_state=True)
    kind, name, cause = ending(reader)
    assert (kind, name) == wanted[:2]
    assert state.type == kind
    assert cause == wanted[2] or (wanted[2] or "").startswith("1/3")


def test_a_failure_in_a_returned_dict_or_mixed_list_is_not_hidden(reader) -> None:
    """Also when only some of the values came from tasks."""

    @flow
    def as_dict():
        return {"a": good.submit(), "b": bad.submit()}

    @flow
    def mixed():
        return [good.submit(), bad.submit(), "text"]

    @flow
    def deep():
        return {"a": [{"b": (bad.submit(),)}]}

    for one in (as_dict, mixed, deep):
        assert one(return_state=True).is_failed()
        assert ending(reader)[0] == "FAILED"


def test_without_a_return_submitted_failures_count(reader) -> None:
    """The cause names the task that failed, not one that could not start because of it."""

    @flow
    def forgotten():
        broken = bad.submit()
        for _ in range(3):
            good.submit(broken)

    state = forgotten(return_state=True)
    assert state.is_failed()
    assert ending(reader)[2] == "4/4 states failed. First: bad: ValueError: boom"


def test_failures_that_the_code_looked_at_are_its_own_business(reader) -> None:
    """``try``, ``raise_on_failure=False``, ``.state``, ``return_state=True`` and ``allow_failure``."""

    @flow
    def careful():
        with pytest.raises(ValueError):
            bad()
        with pytest.raises(ValueError):
            bad.submit().result()
        assert isinstance(bad.submit().result(raise_on_failure=False), ValueError)
        future = bad.submit()
        future.wait()
        assert future.state.is_failed()
        assert bad(return_state=True).is_failed()
        assert isinstance(good(flowdeck.allow_failure(bad.submit())), ValueError)
        return "fine"

    assert careful() == "fine"
    assert ending(reader)[0] == "COMPLETED"


def test_states_that_are_not_final_fail_the_flow(reader) -> None:
    """Instead of breaking the engine."""

    @flow
    def one():
        return State("RUNNING")

    @flow
    def several():
        return [Completed(), State("PENDING")]

    for wrong in (one, several):
        assert wrong(return_state=True).is_failed()
        assert "not final" in ending(reader)[2]


def test_wrong_parameters_fail_the_run_in_words(reader) -> None:
    """The body does not run."""

    @flow
    def typed(x: int):
        raise AssertionError

    state = typed("many", return_state=True)
    assert state.is_failed()
    assert "'x'" in ending(reader)[2]
    with pytest.raises(ParameterError, match="no parameter 'z'"):
        typed(z=1)


def test_methods_can_be_flows(reader) -> None:
    """Instance, class and static methods."""

    class Pipeline:
        factor = 3

        @flow
        def instance(self, x: int):
            return self.factor * x

        @classmethod
        @flow
        def of_class(cls, x):
            return cls.factor + x

        @staticmethod
        @flow
        def static(x):
            return x

    assert (Pipeline().instance("2"), Pipeline.of_class(1), Pipeline().static(7)) == (6, 4, 7)
    assert [run.flow_name for run in reader.runs()] == ["static", "of_class", "instance"]


def test_unknown_options_are_refused_with_the_nearest_name() -> None:
    """For flows and tasks, in the decorator and in ``with_options``."""
    with pytest.raises(UsageError, match=r"@flow has no option 'retrys'; did you mean 'retries'\?"):
        flow(retrys=1)
    with pytest.raises(UsageError, match="did you mean 'timeout_seconds'"):
        task(timeout_second=3, name="x")
    with pytest.raises(UsageError, match="has no option 'zzz'; its options are cache_result_in_memory, collision_"):
        flow(zzz=1)
    with pytest.raises(UsageError, match="did you mean 'retries'"):
        good.with_options(retires=1)
    with pytest.raises(UsageError, match="did you mean 'tags'"):
        flow(lambda: 1).with_options(tag=1)


def test_options_of_prefect_are_accepted(reader) -> None:
    """``log_prints`` and the others change nothing that is recorded anyway."""

    @task(log_prints=True, tags=["x"], description="d", version="1", persist_result=True)
    def one():
        print("said")

    @flow(log_prints=True, version="2", description="other", persist_result=True, validate_parameters=True)
    def whole():
        one()

    whole()
    assert "said" in [row.message for row in reader.logs(1)]


def test_names_and_tags(reader) -> None:
    """Templates use the parameters; ``tags`` nest and add up."""

    @task(task_run_name="load {what} {size}", tags=["t"])
    def load(what, size=3):
        return what

    @task
    def tagged():
        pass

    @flow(flow_run_name="for {day}", tags=["f"])
    def named(day: str = "monday"):
        load("a")
        load(load.submit("b", size=4))
        with tags("x"), tags("y"):
            tagged()

    with tags("outer"):
        named()
    run = reader.find("for monday")
    assert run.tags == '["f", "outer"]'
    names = {row.seq: (row.name, row.tags) for row in reader.tasks(run.id)}
    assert [name for name, _ in names.values()][:3] == ["load a 3", "load b 4", "load b 3"]
    assert names[4] == ("tagged", '["outer", "x", "y"]')

    @flow(flow_run_name="{nothing}")
    def wrong():
        pass

    with pytest.raises(UsageError, match="flow_run_name cannot be made"):
        wrong()


def test_hooks_are_called_for_their_endings(reader) -> None:
    """In order, sync and async, the others also when one fails; after retries only; kept by ``with_options``."""
    called = []

    @flow(on_completion=[lambda *a: called.append("done 1")])
    def fine():
        return 1

    @fine.on_completion
    async def later(flow, run, state):
        called.append(("done 2", flow.name, run.id, state.type))

    fine()
    assert called == ["done 1", ("done 2", "fine", 1, "COMPLETED")]
    called.clear()
    fine.with_options(name="other")()
    assert [what if isinstance(what, str) else what[1] for what in called] == ["done 1", "other"]
    called.clear()

    def broken(flow, run, state):
        raise RuntimeError("hook trouble")

    @flow(on_failure=[broken, lambda flow, run, state: called.append(str(state.error))], retries=2)
    def failing():
        called.append("body")
        raise ValueError("x")

    failing(return_state=True)
    assert called == ["body", "body", "body", "x"]
    assert any("hook trouble" in row.message for row in reader.logs(3))


def test_outside_a_run_there_is_no_logger() -> None:
    """In words that say what to do."""
    with pytest.raises(MissingContextError, match=r"get_run_logger\(\) needs a run around it"):
        get_run_logger()


def test_any_exception_can_end_a_flow(reader) -> None:
    """Without a text, with a text of a million characters, of no Exception at all."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    class Odd(BaseException):
        pass

    for error, words in ((Mute(), "Mute: <its text cannot"), (ValueError("x" * 10**6), "ValueError: xxx"),
                         (Odd("base"), "Odd: base")):  # fmt: skip

        @flow
        def wrong():
            raise error  # noqa: B023

        with pytest.raises(type(error)):
            wrong()
        kind, _, cause = ending(reader)
        assert kind == "FAILED"
        assert cause.startswith(words)
        assert len(cause) <= 300


def test_a_future_of_a_task_that_could_not_start_fails_the_flow(reader) -> None:
    """Returned alone or in a list, also from a subflow: Failed in words, and never a crash of ours."""

    @task
    def fails():
        raise ValueError("x")

    @task
    def after(value):
        return value

    @flow
    def alone():
        return after.submit(fails.submit())

    @flow
    def listed():
        return [after.submit(fails.submit())]

    @flow
    def outer():
        return alone(return_state=True)

    for each in (alone, listed, outer):
        state = each(return_state=True)
        assert (state.type, state.name) == ("FAILED", "Failed"), state
        assert "upstream" in (state.message or "")
