"""Fingerprints of inputs: equal for equal data, different for different data, within a bounded amount of work."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pathlib
import subprocess
import sys
import time
import uuid
from collections import OrderedDict, defaultdict, namedtuple

import pytest
from flowdeck.engine.encoding.fingerprint import fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=600)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Opaque:
    def __init__(self, value):
        self.value = value


Pair = namedtuple("Pair", "a b")


def copied(value):
    """An equal object that shares nothing."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(copied, value))
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_equal_data_has_one_fingerprint(value: object) -> None:
    """Identity plays no part for plain data."""
    assert fingerprint({"x": value}) == fingerprint({"x": copied(value)})


@given(st.lists(SCALARS, min_size=1, max_size=6), st.integers(0, 5), SCALARS)
@settings(max_examples=200, deadline=None)
def test_a_changed_part_changes_it(values: list, place: int, other: object) -> None:
    """Also when only the type changes: 1, 1.0, True and "1" are different inputs."""
    place %= len(values)
    changed = [*values[:place], other, *values[place + 1 :]]
    if (type(other), repr(other)) != (type(values[place]), repr(values[place])):
        assert fingerprint({"x": values}) != fingerprint({"x": changed})


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True), (1, 1.0), (1, "1"), ("61", b"a"), ([1], (1,)), ([], None), ({}, []), ("a", ["a"]),
        (b"a" * 500, b"a" * 499 + b"b"), ("a" * 500, "a" * 499 + "b"), (Point(1), Point(2)),
        (Colour.RED, Colour.BLUE), (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)),
        (decimal.Decimal("1.0"), decimal.Decimal("1.1")), (pathlib.Path("/a"), pathlib.Path("/b")),
        (uuid.UUID(int=1), uuid.UUID(int=2)), ({1, 2}, {1, 3}), (frozenset({1}), frozenset({2})),
        (Pair(1, 2), Pair(1, 3)), (defaultdict(int, a=1), defaultdict(int, a=2)),
        (OrderedDict(a=1), OrderedDict(a=2)), (["a", "b"], ["a\x1fs1:b"]), (10**5000, 10**5000 + 1),
        (range(3), range(4)), (bytearray(b"a"), bytearray(b"b")), (1 + 2j, 1 + 3j),
    ],
    ids=lambda _: "x",
)  # fmt: skip
def test_different_inputs_differ(left: object, right: object) -> None:
    """A finished task is not reused for other inputs."""
    assert fingerprint({"x": left}) != fingerprint({"x": right})


def test_names_count() -> None:
    """The same values under other names are other inputs."""
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 2, "b": 1})
    assert fingerprint({"a": 1}) != fingerprint({"b": 1})


def test_sets_have_no_order() -> None:
    """Equal sets of strings are equal in every process, whatever the hash seed."""
    program = (
        "from flowdeck.engine.encoding.fingerprint import fingerprint;"
        "print(fingerprint({'x': {'alpha', 'beta', 'gamma'}, 'y': frozenset('abcdef')}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_objects_count_by_type_only() -> None:
    """What cannot be read never makes a finished task run again."""
    assert fingerprint({"x": Opaque(1)}) == fingerprint({"x": Opaque(2)})
    assert fingerprint({"x": Opaque(1)}) != fingerprint({"x": object()})
    assert fingerprint({"x": Opaque(1)}, lambda _: "1/2") != fingerprint({"x": Opaque(1)}, lambda _: "1/3")


def test_work_is_bounded() -> None:
    """A million parts cost about as much as two thousand; a list that holds itself ends."""
    begun = time.process_time()
    fingerprint({"x": list(range(10**6)), "y": {i: i for i in range(10**5)}, "z": set(range(10**5))})
    assert time.process_time() - begun < 1
    loop: list = []
    loop.append(loop)
    assert fingerprint({"x": loop})
    assert fingerprint({"x": list(range(10**6))}) != fingerprint({"x": list(range(10**6 + 1))})
