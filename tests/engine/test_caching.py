"""The result cache: what makes two calls the same, what is written when, and who computes when several could."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from textwrap import dedent

import pytest
from flowdeck import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
    IsolationLevel,
    flow,
    task,
    task_input_hash,
)
from flowdeck.engine.encoding.stable_hash import CacheKeyError, stable_hash
from flowdeck.engine.errors import UsageError
from flowdeck.store.connection import connect
from flowdeck.store.tables import cache

pytestmark = pytest.mark.usefixtures("store")


def lines(reader, run_id=1):
    return [row.message for row in reader.logs(run_id, limit=1000)]


def names(reader, run_id=1):
    return [row.state_name for row in reader.tasks(run_id)]


def entries(store):
    connection = connect(store, "state", readonly=True)
    try:
        return [key for (key,) in connection.execute("SELECT key FROM cache_entry ORDER BY created_at_us")]
    finally:
        connection.close()


# ---------------------------------------------------------------------------------------------------- policies


def test_equal_calls_both_run_unless_a_policy_says_otherwise(reader, effects) -> None:
    """The journal alone never makes two calls of one run into one."""

    @task
    def plain(x):
        effects("plain")
        return x

    @task(cache_policy=DEFAULT)
    def cached(x):
        effects("cached")
        return x

    @task(persist_result=True)
    def persisted(x):
        effects("persisted")
        return x

    @task(persist_result=True, cache_policy=None)
    def refused(x):
        effects("refused")
        return x

    @flow
    def whole():
        return [plain(1), plain(1), cached(1), cached(1), cached(2), persisted(1), persisted(1), refused(1), refused(1)]

    assert whole() == [1, 1, 1, 1, 2, 1, 1, 1, 1]
    assert [effects.count(name) for name in ("plain", "cached", "persisted", "refused")] == [2, 2, 1, 2]
    assert names(reader) == ["Completed", "Completed", "Completed", "Cached", "Completed", "Completed", "Cached",
                             "Completed", "Completed"]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "same_run", "other_run", "other_parameters"),
    [
        (DEFAULT, 1, 2, 2), (INPUTS, 1, 1, 1), (INPUTS + TASK_SOURCE, 1, 1, 1), (INPUTS + FLOW_PARAMETERS, 1, 1, 2),
        (FLOW_PARAMETERS, 1, 1, 2), (RUN_ID, 1, 2, 2), (NO_CACHE, 2, 2, 2), (NONE, 2, 2, 2),
        (NO_CACHE + INPUTS, 1, 1, 1), (INPUTS + NO_CACHE, 1, 1, 1), (DEFAULT - "x", 1, 2, 2),
    ],
    ids=repr,
)  # fmt: skip
def test_what_each_policy_shares(reader, effects, policy, same_run, other_run, other_parameters) -> None:
    """Within a run, with another run, with a run of other parameters; equal inputs all along."""

    @task(cache_policy=policy)
    def step(x):
        effects("step")
        return x

    @flow
    def whole(p, repeats):
        for _ in range(repeats):
            assert step(7) == 7

    whole(1, 2)
    assert effects.count("step") == same_run
    before = effects.count("step")
    whole(1, 2)
    assert effects.count("step") - before == other_run - 1 if other_run == 1 else same_run
    before = effects.count("step")
    whole(2, 2)
    assert effects.count("step") - before == (0 if other_parameters == 1 else same_run)


def test_left_out_arguments_do_not_count(effects) -> None:
    """``INPUTS - "name"``, also twice, and by a key storage two sets of keys."""

    @task(cache_policy=INPUTS - "debug" - "client")
    def step(x, debug=False, client=None):
        effects(f"step {x}")
        return x

    @flow
    def whole():
        step(1)
        step(1, debug=True)
        step(x=1, client=threading.Lock())
        step(2)
        apart = step.with_options(cache_policy=(INPUTS - "debug" - "client").configure(key_storage="elsewhere"))
        apart(1)
        apart(1)

    whole()
    assert effects.lines == ["step 1", "step 2", "step 1"]


def test_defaults_count_as_given(effects) -> None:
    """A call that spells a default out equals one that leaves it to the function."""

    @task(cache_policy=INPUTS)
    def step(x, y=2, *rest, **more):
        effects("step")

    @flow
    def whole():
        step(1)
        step(1, 2)
        step(x=1, y=2)
        step(1, 2, 3)
        step(1, 2, z=3)

    whole()
    assert effects.count("step") == 3


def test_two_tasks_never_share_by_accident(effects) -> None:
    """Equal inputs, or equal flow parameters, of two tasks are two calls; a key of the user's is as it is."""

    @task(cache_policy=FLOW_PARAMETERS)
    def first(x):
        return f"first {x}"

    @task(cache_policy=FLOW_PARAMETERS)
    def second(x):
        return f"second {x}"

    @task(cache_key_fn=lambda context, parameters: "shared")
    def third():
        return "third"

    @task(cache_policy=CacheKeyFnPolicy(lambda context, parameters: "shared"))
    def fourth():
        return "fourth"

    @flow
    def whole(p):
        return [first(1), second(1), third(), fourth()]

    assert whole(1) == ["first 1", "second 1", "third", "third"]


def test_changed_code_is_another_call(effects) -> None:
    """TASK_SOURCE counts the task's own code, not comments around it, and INPUTS alone does not."""

    def define(text, policy):
        space = {"effects": effects}
        exec(dedent(text), space)
        made = task(cache_policy=policy)(space["step"])

        @flow
        def whole():
            return made(1)

        return whole()

    old, new = "def step(x):\n  return x", "def step(x):\n  # the same\n\n  return x"
    changed = "def step(x):\n  return x + 1"
    assert define(old, INPUTS + TASK_SOURCE) == define(new, INPUTS + TASK_SOURCE) == 1
    assert define(changed, INPUTS + TASK_SOURCE) == 2
    assert define(old, INPUTS) == 1
    assert define(changed, INPUTS) == 1


def test_policies_are_put_together_and_taken_apart() -> None:
    """Sums and differences in any order are the same; their keys are the same text in every process."""
    context = None
    inputs = {"x": 42, "y": [1, {"b"}]}
    key = INPUTS.compute_key(context, inputs, {})
    assert key == INPUTS.compute_key(context, {"y": [1, {"b"}], "x": 42}, {})
    assert key != (INPUTS - "x").compute_key(context, inputs, {})
    assert (INPUTS - "x" - "y") == (INPUTS - "y" - "x")
    assert INPUTS.compute_key(context, {}, {}) is None
    assert NO_CACHE.compute_key(context, inputs, {}) is None
    assert len({FLOW_PARAMETERS.compute_key(context, inputs, {"p": n}) for n in (1, 2)}) == 2
    assert repr(DEFAULT - "x") == "TASK_SOURCE + RUN_ID + INPUTS - 'x'"
    assert (TASK_SOURCE - "x").compute_key(context, inputs, {}) == (INPUTS - "x" + TASK_SOURCE).compute_key(
        context, inputs, {}
    )
    serializable = DEFAULT.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=object())
    assert (serializable - "x").isolation_level is IsolationLevel.SERIALIZABLE
    assert DEFAULT.isolation_level is None
    with pytest.raises(ValueError, match="isolation levels"):
        _ = INPUTS.configure(isolation_level="SERIALIZABLE") + RUN_ID.configure(isolation_level="READ_COMMITTED")
    with pytest.raises(TypeError, match="only the name"):
        _ = DEFAULT - 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cache_policy": lambda context, parameters: "k"}, "cache_key_fn"),
        ({"cache_policy": INPUTS, "cache_expiration": 5}, "timedelta"),
        ({"cache_key_fn": "k"}, "function of"),
    ],
)
def test_wrong_options_are_refused(options, error) -> None:
    """At the decoration, with what to write instead."""
    with pytest.raises(UsageError, match=error):
        task(**options)(lambda: None)


# ---------------------------------------------------------------------------------------------------- hashing


@dataclass
class Point:
    x: int
    tags: set


class Plain:
    def __init__(self, value):
        self.value = value


def test_hashes_are_the_same_in_every_process() -> None:
    """Sets, objects, nested data: the text does not hang on addresses or the hash seed."""
    values = ("[1, 1.0, True, None, 'ä', b'x', (1, 2), {'b': {3, 'c', (4,)}, 'a': 1}, Point(1, {'q', 'r', 's'}), "
              "Plain([{'u', 'v'}]), timedelta(1), 2**90]")  # fmt: skip
    turned = values.replace("{3, 'c', (4,)}", "{(4,), 'c', 3}").replace("{'q', 'r', 's'}", "{'s', 'r', 'q'}")
    import_this = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); from test_caching import *"
    found = {stable_hash(eval(values)), stable_hash(eval(turned))}
    for seed, text in (("1", values), ("2", turned), ("3", values)):
        script = f"{import_this}; print(stable_hash({text}))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True,
                              env={**os.environ, "PYTHONHASHSEED": seed})  # fmt: skip
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_hashes_tell_everything_apart() -> None:
    """Types, nesting and attributes count; what cannot be read is refused."""
    values = [1, 1.0, True, "1", b"1", None, [1], (1,), {1}, {"1": 1}, [[1]], [1, None], Plain(1), Plain(2),
              Point(1, set()), ["a", "b"], ["ab"], {"a": "b"}, len, print, Plain]  # fmt: skip
    assert len({stable_hash(value) for value in values}) == len(values)
    loop = []
    loop.append(loop)
    assert stable_hash(loop) != stable_hash([[]])
    with pytest.raises(CacheKeyError, match="pickle"):
        stable_hash([Plain(threading.Lock())])


def test_an_argument_that_has_no_hash_is_named_with_the_remedy(reader, effects) -> None:
    """The task runs, nothing is cached, and the log says which argument and what to do."""

    @task(cache_policy=INPUTS)
    def step(x, lock):
        effects("step")
        return x

    @task(cache_key_fn=lambda context, parameters: 1 / 0)
    def broken():
        effects("broken")

    @task(cache_key_fn=lambda context, parameters: 5)
    def number():
        effects("number")

    @flow
    def whole():
        for _ in range(2):
            step(1, threading.Lock())
            broken()
            number()

    whole()
    assert [effects.count(name) for name in ("step", "broken", "number")] == [2, 2, 2]
    text = "\n".join(lines(reader))
    assert "'lock'" in text
    assert "INPUTS - 'lock'" in text
    assert "ZeroDivisionError" in text
    assert "must be a text, not 5" in text


# ---------------------------------------------------------------------------------------------------- hits and misses


def test_a_cached_call_has_its_own_record(reader, effects) -> None:
    """State, cause with its source, result, edges; later runs read it from there; hooks are called."""
    seen = []

    @task
    def source():
        return [1, 2]

    @task(cache_policy=INPUTS, cache_expiration=timedelta(hours=1), on_completion=[lambda t, r, s: seen.append(s.name)])
    def step(rows):
        effects("step")
        return {"n": len(rows)}

    @flow
    def whole():
        return step(source()), step.submit(source.submit()).result(), step.map([[1, 2]]).result()

    whole()
    state = whole(return_state=True)
    assert state.result() == ({"n": 2}, {"n": 2}, [{"n": 2}])
    assert effects.count("step") == 1
    row = next(row for row in reader.tasks(2) if row.key == "step")
    assert (row.state_type, row.state_name) == ("COMPLETED", "Cached")
    assert row.cause.startswith("cached from 1/2, expires 2")
    assert reader.result(2, row.seq).preview == "{'n': 2}"
    assert [edge.from_seq for edge in reader.edges(2) if edge.to_seq == row.seq] == [1]
    names_of = [event.to_name for event in reader.events(run_id=2) if event.task_seq == row.seq]
    assert names_of == ["Pending", "Cached"]
    assert seen == ["Completed", *["Cached"] * 5]


def test_a_replay_keeps_what_was_cached(store, reader, effects) -> None:
    """A Cached task is a finished one: a retry returns its recorded value, whatever became of the entry."""
    from flowdeck.engine.control.control import Control
    from flowdeck.engine.running.run_process.claiming import claim_here
    from flowdeck.engine.running.run_process.entry import execute_run

    @task(cache_policy=INPUTS)
    def step(x):
        effects("step")
        return x * 100_000

    @flow
    def whole():
        value = step("y")
        effects("whole")
        if effects.count("whole") == 2:
            raise ValueError
        return len(value)

    whole()
    whole(return_state=True)
    for path in (store / "cache").iterdir():
        path.unlink()
    control = Control(store, actor="tester@here via test")
    control.retry(2)
    control.close()
    assert execute_run(store, 2, claim_here(store, 2), whole) == 0
    assert effects.count("step") == 1
    assert names(reader, 2) == ["Cached"]


def test_expired_entries_are_not_used(effects) -> None:
    """With an expiration in the past never, in the future once."""

    @task(cache_key_fn=lambda context, parameters: "past", cache_expiration=timedelta(seconds=-5))
    def past():
        effects("past")

    @task(cache_key_fn=lambda context, parameters: "future", cache_expiration=timedelta(seconds=500))
    def future():
        effects("future")

    @flow
    def whole():
        for _ in range(3):
            past()
            future()

    whole()
    assert (effects.count("past"), effects.count("future")) == (3, 1)


def test_failures_are_not_cached(store, reader, effects) -> None:
    """Nor what could not be stored, nor what was cancelled; a retry that completes is."""

    @task(cache_policy=INPUTS, retries=1)
    def shaky(x):
        effects("shaky")
        if effects.count("shaky") < 4:
            raise ValueError
        return x

    @task(cache_policy=INPUTS)
    def opens(x):
        effects("opens")
        return threading.Lock()

    @flow
    def whole():
        for _ in range(3):
            shaky(1, return_state=True)
            opens(1)

    whole()
    assert (effects.count("shaky"), effects.count("opens")) == (4, 3)
    assert names(reader) == ["Failed", "Completed", "Completed", "Completed", "Cached", "Completed"]
    assert len(entries(store)) == 1
    assert any("opens is not cached: its result could not be stored" in line for line in lines(reader))


def test_a_key_function_sees_values_and_the_task(effects) -> None:
    """Futures are resolved, arguments come in the order of the function, the run is at hand."""
    seen = []

    def key(context, parameters):
        seen.append((list(parameters.items()), context.task.name, context.parameters == parameters))
        return f"{parameters}"

    @task
    def source():
        return 5

    @task(cache_key_fn=key)
    def step(a, b=2):
        effects("step")
        return a + b

    @flow
    def whole():
        return step.submit(b=1, a=source.submit()).result(), step(5, 1)

    assert whole() == (6, 6)
    assert effects.count("step") == 1
    assert seen == [([("a", 5), ("b", 1)], "step", True)] * 2


def test_refresh_runs_again_and_replaces_the_entry(monkeypatch, effects) -> None:
    """As an option, and as a setting that an option overrules; caching can be switched off altogether."""

    @task(cache_policy=INPUTS)
    def step(x):
        effects("step")
        return len(effects.lines)

    @flow
    def whole(**options):
        return step.with_options(**options)(1)

    assert (whole(), whole()) == (1, 1)
    assert whole(refresh_cache=True) == 2
    assert whole() == 2
    monkeypatch.setenv("FLOWDECK_TASKS_REFRESH_CACHE", "true")
    assert whole() == 3
    assert whole(refresh_cache=False) == 3
    monkeypatch.delenv("FLOWDECK_TASKS_REFRESH_CACHE")
    monkeypatch.setenv("FLOWDECK_TASKS_DISABLE_CACHING", "1")
    assert whole() == 4
    monkeypatch.delenv("FLOWDECK_TASKS_DISABLE_CACHING")
    assert whole() == 3


def test_no_cache_can_be_the_default(monkeypatch, effects) -> None:
    """``FLOWDECK_TASKS_DEFAULT_NO_CACHE``: only a policy that is written down counts."""
    monkeypatch.setenv("FLOWDECK_TASKS_DEFAULT_NO_CACHE", "1")

    @task(persist_result=True)
    def step():
        effects("step")

    @flow
    def whole():
        step()
        step()

    whole()
    assert effects.count("step") == 2


def test_a_method_is_cached_by_what_it_was_reached_through(effects) -> None:
    """``self`` is an argument: two objects never share a result, equal ones do; key functions and names see it, too."""
    seen = []

    class Adder:
        def __init__(self, base):
            self.base = base

        @task(cache_policy=INPUTS, task_run_name="{self.base}+{x}")
        def add(self, x):
            effects(f"add {self.base}+{x}")
            return self.base + x

        @task(cache_key_fn=lambda _context, given: seen.append(given) or f"key-{given['self'].base}")
        def by_function(self, x):
            return self.base + x

        @classmethod
        @task(cache_policy=INPUTS)
        def made(cls, x):
            return cls.__name__, x

    class Other(Adder):
        pass

    @flow
    def whole():
        adders = Adder(1), Adder(100), Adder(1)
        return ([each.add(5) for each in adders], [each.add.submit(5).result() for each in adders],
                [each.add.with_options(tags=["t"])(5) for each in adders],
                [each.by_function(5) for each in adders], Adder.made(1), Other.made(1))

    assert whole() == ([6, 105, 6], [6, 105, 6], [6, 105, 6], [6, 105, 6], ("Adder", 1), ("Other", 1))
    assert (effects.count("add 1+5"), effects.count("add 100+5")) == (1, 1)
    assert [sorted(given) for given in seen] == [["self", "x"]] * 3


def test_equal_instances_share_and_policies_of_ones_own_work(effects) -> None:
    """A method's cache hangs on what its instance holds; a subclass of CachePolicy makes any key."""

    class Upper(CachePolicy):
        def compute_key(self, task_ctx, inputs, flow_parameters, **kwargs):
            return inputs["word"].upper()

    class Worker:
        @task(cache_policy=INPUTS)
        def work(self, x):
            effects("work")
            return x

    @task(cache_policy=Upper())
    def spell(word):
        effects("spell")
        return word

    @task(cache_key_fn=task_input_hash)
    def hashed(x):
        effects("hashed")

    @flow
    def whole():
        Worker().work(1)
        Worker().work(1)
        hashed([1])
        hashed([1])
        return spell("a"), spell("A")

    assert whole() == ("a", "a")
    assert [effects.count(name) for name in ("work", "spell", "hashed")] == [1, 1, 1]


async def _twice(step):
    return [await step(1), await step(1)]


def test_async_tasks_are_cached_as_any(reader, effects) -> None:
    """Awaited and submitted."""
    import asyncio

    @task(cache_policy=INPUTS)
    async def step(x):
        effects("step")
        return x

    @flow
    async def whole():
        return [*await _twice(step), step.submit(1).result()]

    assert asyncio.run(whole()) == [1, 1, 1]
    assert effects.count("step") == 1
    assert names(reader) == ["Completed", "Cached", "Cached"]


def test_a_storage_key_is_a_key(effects) -> None:
    """``result_storage_key`` makes one of the parameters; a template that cannot be filled in is said."""

    @task(result_storage_key="hello-{parameters[name]}")
    def hello(name, loud=False):
        effects(f"hello {name}")
        return name

    @flow
    def whole():
        return [hello("a"), hello("a", loud=True), hello("b")]

    assert whole() == ["a", "a", "b"]
    assert whole() == ["a", "a", "b"]
    assert effects.lines == ["hello a", "hello b"]


def test_a_broken_entry_is_computed_anew(store, reader, effects) -> None:
    """A removed or damaged file: the task runs, the log says why, and the entry is good again."""

    @task(cache_policy=INPUTS)
    def big(x):
        effects("big")
        return x * 100_000

    @flow
    def whole():
        return len(big("z"))

    whole()
    (path,) = (store / "cache").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    assert whole() == 100_000
    assert any("cannot be read: FileNotFoundError" in line for line in lines(reader, 2))
    (path,) = (store / "cache").iterdir()
    path.chmod(0o600)
    path.write_bytes(b"damage")
    assert whole() == 100_000
    assert any("checksum" in line for line in lines(reader, 3))
    assert effects.count("big") == 3
    assert whole() == 100_000
    assert effects.count("big") == 3
    assert len(list((store / "cache").iterdir())) == 1


# ---------------------------------------------------------------------------------------------------- one at a time

ONCE = """
    from datetime import timedelta
    @task(cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE))
    def step(x):
        effect(f"begin {os.getpid()}")
        if sys.argv[1] == "hold":
            wait_for("go")
        time.sleep(0.05)
        return os.getpid()

    @flow
    def whole():
        return [future.result() for future in step.map([1] * 4)]

    print("got", sorted(set(whole())))
    """


def test_one_of_many_callers_computes(reader, effects) -> None:
    """SERIALIZABLE within a process: mapped calls of one key run once, the others wait without a thread of the pool."""
    from flowdeck import ThreadPoolTaskRunner

    @task(cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE))
    def step(x):
        effects("step")
        return other.submit().result()

    @task
    def other():
        return 5

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def whole():
        return [future.result() for future in step.map([1] * 20)]

    assert whole() == [5] * 20
    assert effects.count("step") == 1
    assert sorted(set(names(reader))) == ["Cached", "Completed"]


def test_one_of_two_processes_computes(script, effects, eventually) -> None:
    """The second waits for the first one's end and has its result."""
    first = script.start(ONCE, "hold")
    eventually(lambda: len(effects.lines) == 1)
    second = script.start(None, "run")
    connection = connect(script.store, "state", readonly=True)
    eventually(lambda: connection.execute(
        "SELECT 1 FROM task_run WHERE run_id = 2 AND cause LIKE 'waits for 1/%'").fetchone())  # fmt: skip
    connection.close()
    script.touch("go")
    outs = [process.communicate(timeout=30) for process in (first, second)]
    assert [out for out, _ in outs] == [f"got [{first.pid}]\n"] * 2, outs
    assert effects.lines == [f"begin {first.pid}"]


def test_a_killed_holder_frees_its_key(script, effects, eventually) -> None:
    """kill -9 of the process that computes: a waiter takes over at once."""
    first = script.start(ONCE, "hold")
    eventually(lambda: len(effects.lines) == 1)
    second = script.start(None, "run")
    connection = connect(script.store, "state", readonly=True)
    eventually(lambda: connection.execute(
        "SELECT 1 FROM task_run WHERE run_id = 2 AND cause LIKE 'waits for 1/%'").fetchone())  # fmt: skip
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    out, err = second.communicate(timeout=30)
    assert out == f"got [{second.pid}]\n", err
    assert effects.lines == [f"begin {first.pid}", f"begin {second.pid}"]
    assert connection.execute("SELECT count(*) FROM cache_lock").fetchone()[0] == 0
    connection.close()


def test_a_waiting_call_can_be_cancelled(script, store, reader, effects, eventually) -> None:
    """Its run ends at once; the holder goes on."""
    from flowdeck.engine.control.control import Control

    first = script.start(ONCE, "hold")
    eventually(lambda: len(effects.lines) == 1)
    second = script.start(None, "run")
    eventually(lambda: any("waits for" in (row.cause or "") for row in reader.tasks(2)))
    control = Control(store, actor="tester@here via test")
    control.cancel(2)
    control.close()
    assert second.wait(60) == 130
    assert set(names(reader, 2)) == {"Cancelled"}
    script.touch("go")
    assert first.wait(60) == 0
    assert len(effects.lines) == 1


def test_the_lock_of_a_failed_call_is_given_back(store, reader, effects) -> None:
    """The next one computes; nothing stays locked."""

    @task(cache_policy=INPUTS.configure(isolation_level="SERIALIZABLE"))
    def step(x):
        effects("step")
        if effects.count("step") == 1:
            raise ValueError("no")
        return x

    @flow
    def whole():
        return [state.name for state in step.map([1] * 3, return_state=True)]

    assert sorted(whole()) == ["Cached", "Completed", "Failed"]
    connection = connect(store, "state", readonly=True)
    (key,) = entries(store)
    assert cache.lock_holder(connection, key) is None
    connection.close()


def test_an_entry_is_written_with_the_end_of_its_task(script, store, reader, effects) -> None:
    """A kill between two writes leaves both or neither: wherever the process dies, entry and record agree."""
    text = """
        import threading
        @task(cache_policy=INPUTS)
        def step(x):
            return x
        @flow
        def whole():
            step(-1)
            threading.Timer(float(sys.argv[1]), lambda: os.kill(os.getpid(), 9)).start()
            for n in range(10_000):
                step(n)
        whole()
        """
    for seconds in ("0.1", "0.2", "0.35"):
        script.run(text, seconds)
    connection = connect(store, "state", readonly=True)
    done = connection.execute("SELECT count(*) FROM task_run WHERE state_name = 'Completed'").fetchone()[0]
    assert done == connection.execute("SELECT count(*) FROM cache_entry").fetchone()[0] > 0
    connection.close()


def test_expired_entries_are_removed(store) -> None:
    """With the first entry that a process writes; their files as well."""

    @task(cache_policy=INPUTS, cache_expiration=timedelta(microseconds=1))
    def short(x):
        return x * 100_000

    @task(cache_policy=INPUTS)
    def lasting(x):
        return x

    @flow
    def first():
        short("a")
        short("b")

    @flow
    def second():
        lasting("c")

    first()
    assert len(entries(store)) == len(list((store / "cache").iterdir())) > 0
    second()
    assert len(entries(store)) == 1
    assert list((store / "cache").iterdir()) == []
