"""What values in a store are named by: the public modules, whatever file of the engine a class stands in."""

from __future__ import annotations

import importlib
import inspect
import pickle
from types import FunctionType
from typing import Any

import cloudpickle
import flowdeck
import pytest
from flowdeck.engine.encoding import codec, former_names

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
