"""What values in a store are named by: the public modules, whatever file of the engine a class stands in."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys
from types import FunctionType
from typing import Any

import cloudpickle
import flowdeck
import pytest
from flowdeck.engine.encoding import codec, former_names
from flowdeck.engine.encoding.code_hash import recorded_code_hash
from flowdeck.engine.encoding.stable_hash import stable_hash

PUBLIC = ("flowdeck", *(f"flowdeck.{name}" for name in sorted(flowdeck._BESIDE)))


def public_objects() -> list[Any]:
    """Every class and function that users can import."""
    found = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for key in getattr(module, "__all__", None) or [key for key in dir(module) if not key.startswith("_")]:
            value = getattr(module, key)
            if inspect.isclass(value) or (isinstance(value, FunctionType) and name == "flowdeck"):
                found[id(value)] = value
    return [value for value in found.values() if value.__module__.startswith("flowdeck")]


def test_public_things_are_named_by_public_modules() -> None:
    """A pickle of any public class or function names no file of the engine, and finds the very same object again."""
    objects = [value for value in public_objects() if value is not flowdeck.errors.Suspended]  # never an outcome
    assert len(objects) > 100
    for value in objects:
        assert value.__module__ in PUBLIC, value
        assert getattr(importlib.import_module(value.__module__), value.__name__) is value
        assert b"flowdeck.engine" not in pickle.dumps(value)


@pytest.mark.parametrize("name", ["Annotation", "FlowRunView", "Recording", "StoredState", "TaskRunView", "_UNSET"])
def test_what_only_stored_values_hold_is_found_too(name: str) -> None:
    """Parts of values that nobody imports have a name for good, too."""
    value = getattr(flowdeck, name)
    assert pickle.loads(pickle.dumps(value)) is value


def test_every_error_is_in_the_public_tree() -> None:
    """Each error that the engine or the store raises can be imported from ``flowdeck.errors`` and says so."""
    waiting, seen = [flowdeck.FlowdeckError], set()
    while waiting:
        kind = waiting.pop()
        seen.add(kind.__name__)
        waiting += kind.__subclasses__()
        if kind.__name__ in flowdeck.errors.__all__:
            assert getattr(flowdeck.errors, kind.__name__) is kind
            assert pickle.loads(cloudpickle.dumps(kind)) is kind
    assert seen >= set(flowdeck.errors.__all__) - {"Cancelled", "Suspended"}


def test_names_of_before_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that names the file its class stood in once is decoded as if it named where it stands now."""
    data = pickle.dumps(flowdeck.State("COMPLETED", data=1), protocol=2).replace(
        b"cflowdeck\nState", b"cflowdeck.engine.elsewhere\nState"
    )
    with pytest.raises(flowdeck.errors.ResultUnreadable, match="elsewhere"):
        codec.decode("cloudpickle", data, codec.checksum(data))
    monkeypatch.setitem(former_names.FORMER, "elsewhere", ("system.clock", "states.state"))
    assert codec.decode("cloudpickle", data, codec.checksum(data)).data == 1


def test_who_looks_through_all_modules_loads_none() -> None:
    """``inspect`` and others ask every loaded module for its ``__file__``: modules of before load nothing for it."""
    program = (
        "import sys, flowdeck.engine.encoding.former_names as former_names; former_names.make_importable()\n"
        "import flowdeck.engine.dispatcher, flowdeck.engine.classic\n"
        "before = set(sys.modules)\n"
        "for module in list(sys.modules.values()): getattr(module, '__file__', None)\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("\n", 0), done.stderr


def test_names_of_before_can_be_imported() -> None:
    """A serializer of the user's own, and code in a value, import what they name without asking the engine."""
    former_names.make_importable()
    for former in former_names.FORMER:
        assert importlib.import_module(f"flowdeck.engine.{former}")
    for former, value in (("states", flowdeck.State), ("sh", flowdeck.ShResult), ("annotations", flowdeck.quote),
                          ("errors", flowdeck.Cancelled), ("errors", flowdeck.CommandFailed)):
        data = f"cflowdeck.engine.{former}\n{value.__qualname__}\n.".encode()
        assert pickle.loads(data) is value
    assert importlib.import_module("flowdeck.engine.runtime").flow_run is flowdeck.runtime.flow_run
    with pytest.raises(ImportError, match="nowhere"):
        importlib.import_module("flowdeck.engine.nowhere")
    with pytest.raises(AttributeError, match="nothing"):
        _ = importlib.import_module("flowdeck.engine.sh").nothing


SAID = flowdeck.ShResult(2, "out", "", {"n": 1})


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (SAID, "61f2be6a0ff90b10"),
        (flowdeck.Completed(data=[1], message="by hand"), "c7819900138ef988"),
        ([flowdeck.Failed(data=flowdeck.CommandFailed("no", SAID)), flowdeck.CommandFailed("no", SAID)],
         "4087d82fecb64dbc"),
        (flowdeck.state.Success("fine", 7), "b9770b04a0b72dd7"),
        ([flowdeck.Cron("0 6 * * *"), flowdeck.Interval(60)], "b76429e14f5620c9"),
        ([flowdeck.INPUTS, flowdeck.IsolationLevel.SERIALIZABLE], "b48bb0bc5c953ac6"),
        (flowdeck.Artifact("markdown", "key", data="x"), "4b08c920aafe8d94"),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_keys_are_what_they_ever_were(value: Any, key: str) -> None:
    """What was cached for an input of ours is found by later versions: its key holds the names of the first one."""
    assert stable_hash(value)[:16] == key


def test_code_of_ours_is_not_recorded() -> None:
    """Commands and graphs that had finished do not run again because a later version does them in other code."""

    @flowdeck.task
    def users() -> None:
        """The user's own."""

    with flowdeck.Flow("graph") as graph:
        users()
    assert users.code_hash is not None
    assert flowdeck.sh.code_hash is None
    assert recorded_code_hash(graph.fn) is None
    assert recorded_code_hash(len) is None
