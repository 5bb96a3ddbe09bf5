"""Results: how they are stored when the task says so, values that are not kept in memory, large ones."""

from __future__ import annotations

import gc
import json
import threading
import weakref
import zlib

import pytest
from flowdeck import INPUTS, flow, task
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import ResultUnreadable, UsageError
from flowdeck.engine.running.run_process.claiming import claim_here
from flowdeck.engine.running.run_process.entry import execute_run

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def retry(store):
    """Retry a run here; returns its exit code."""

    def again(run_id, one_flow):
        control = Control(store, actor="tester@here via test")
        control.retry(run_id)
        control.close()
        return execute_run(store, run_id, claim_here(store, run_id), one_flow)

    return again


class Hexed:
    """A serializer of the user's own."""

    def dumps(self, value):
        return json.dumps(value).encode().hex().encode()

    def loads(self, data):
        return json.loads(bytes.fromhex(data.decode()))


class Value:
    """Something that can be told by a weak reference."""

    def __init__(self, n):
        self.n = n


@pytest.mark.parametrize(
    ("serializer", "codec"),
    [("json", "json"), ("pickle", "cloudpickle"), ("compressed/json", "json"), ("compressed/pickle", "cloudpickle"),
     (Hexed(), "cloudpickle"), (None, "json")],
)  # fmt: skip
def test_a_serializer_writes_and_any_attempt_reads(reader, effects, retry, serializer, codec) -> None:
    """Whatever it is, a retry has the value back, and so has the cache."""

    @task(result_serializer=serializer, cache_policy=INPUTS)
    def step(n):
        effects("step")
        return {"rows": [f"{number % 3}" * 50 for number in range(n)]}

    @flow
    def whole():
        value = step(100)
        effects("whole")
        if effects.count("whole") == 1:
            raise ValueError
        return [len(value["rows"]), step(100) == value]

    whole(return_state=True)
    row = reader.result(1, 1)
    assert row.codec == codec
    compressed = str(serializer).startswith("compressed/")
    assert (row.size_bytes < 300) == compressed
    if compressed:
        assert zlib.decompress(row.data[4:])
    assert retry(1, whole) == 0
    assert reader.run(1).result_preview == "[100, True]"
    assert effects.count("step") == 1


def test_what_a_serializer_refuses_is_said_and_the_flow_goes_on(reader, effects, retry) -> None:
    """As what cannot be pickled: the task runs again."""

    class Broken:
        def dumps(self, value):
            raise RuntimeError("no")

        def loads(self, data):
            return None

    @task(result_serializer="json")
    def no_json():
        effects("json")
        return {1, 2}

    @task(result_serializer=Broken())
    def broken():
        effects("broken")
        return 1

    @task
    def unpicklable():
        return threading.Lock()

    @flow
    def whole():
        values = no_json(), broken(), unpicklable()
        effects("whole")
        if effects.count("whole") == 1:
            raise ValueError
        return len(values)

    whole(return_state=True)
    said = "\n".join(row.message for row in reader.logs(1))
    assert "the result of no_json is not journalled" in said
    assert "Broken" not in said
    assert "RuntimeError: no" in said
    assert retry(1, whole) == 0
    assert (effects.count("json"), effects.count("broken")) == (2, 2)


@pytest.mark.parametrize("serializer", ["yaml", "compressed/", 5, object()])
def test_unknown_serializers_are_refused(serializer) -> None:
    """With those there are."""
    with pytest.raises(UsageError, match="compressed/json"):
        task(result_serializer=serializer)(len)
    with pytest.raises(UsageError, match="result_storage"):
        task(result_storage="/somewhere")(len)


def test_a_value_not_kept_in_memory_is_read_for_each_consumer(store, effects) -> None:
    """It is gone after them; the future still has it; a removed file is said."""
    alive = weakref.WeakSet()

    @task(cache_result_in_memory=False)
    def make(n):
        value = Value(n)
        alive.add(value)
        return [value, "x" * 100_000]

    @task
    def use(rows):
        return rows[0].n

    @flow
    def whole():
        future = make.submit(1)
        used = [use.submit(future).result(), use.submit(future).result()]
        mapped = use.map(make.map([2, 3])).result()
        future.wait()
        gc.collect()
        effects(len(alive))
        return used, mapped, future.result()[0].n, make(4)[0].n

    assert whole() == ([1, 1], [2, 3], 1, 4)
    assert effects.lines == ["0"]

    @flow
    def removed():
        state = make(5, return_state=True)
        assert state.is_completed()
        for path in (store / "results").rglob("*.bin"):
            path.unlink()
        state.result()

    with pytest.raises(ResultUnreadable, match="2/1 cannot be read"):
        removed()


def test_large_results(store, reader, retry, effects) -> None:
    """More than 100 MB: bytes, text and a list; stored as files, read back, their previews short."""

    @task
    def blob():
        effects("blob")
        return b"\0" * 110_000_000

    @task
    def text():
        effects("text")
        return "ä" * 60_000_000

    @flow
    def whole():
        sizes = len(blob()), len(text())
        effects("whole")
        if effects.count("whole") == 1:
            raise ValueError
        return sizes

    whole(return_state=True)
    rows = [reader.result(1, seq) for seq in (1, 2)]
    assert all(row.size_bytes > 100_000_000 and row.path and len(row.preview) <= 200 for row in rows)
    assert retry(1, whole) == 0
    assert effects.lines == ["blob", "text", "whole", "whole"]
    (store / reader.result(1, 1).path).unlink()
    assert retry(1, whole) == 0
    assert effects.count("blob") == 2
    assert any("cannot be read: FileNotFoundError" in row.message for row in reader.logs(1))


def test_a_large_result_is_not_copied_in_memory(script) -> None:
    """Written as it is pickled, read as it is unpickled, its preview made of its first bytes."""
    done = script.run("""
        import resource
        def peak_mb():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        @task
        def blob():
            return b"\\1" * 200_000_000
        @flow
        def whole():
            before = peak_mb()
            assert len(blob()) == 200_000_000
            return peak_mb() - before
        print("grew", whole())
        """)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 300


def test_a_flows_value_not_kept_in_memory(store) -> None:
    """Its state reads it from the store each time; a caller that wants the value has it."""

    @flow(cache_result_in_memory=False)
    def makes(n):
        return Value(n)

    @flow
    def whole():
        state = makes(1, return_state=True)
        first, second = state.result(), state.result()
        return first is second, first.n, makes(2).n

    assert whole() == (False, 1, 2)
    assert makes(3, return_state=True).result().n == 3
    assert makes(4).n == 4
