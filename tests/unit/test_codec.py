"""Results on disk: what goes in comes out, whatever it is; what cannot be kept says why and never raises."""

from __future__ import annotations

import dataclasses
import math
import threading

import pytest
from flowdeck.engine.encoding import codec
from flowdeck.engine.errors import ResultUnreadable
from hypothesis import given, settings
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner,
                                                                               max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


def same(left: object, right: object) -> bool:
    """Equal and of the same types all the way down; NaN is NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return left == right


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    """Value and type survive, also tuples, integer keys, NaN and lone surrogates."""
    encoded = codec.encode(value)
    assert encoded.codec in ("json", "cloudpickle")
    assert same(codec.decode(encoded.codec, encoded.data or b"", encoded.checksum), value)
    assert len(encoded.preview) <= codec.PREVIEW_CHARACTERS


@dataclasses.dataclass
class Point:
    x: int


class Loud:
    def __reduce__(self):
        raise ValueError("not me")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Worse:
    def __reduce__(self):
        raise Mute

    def __repr__(self):
        raise Mute


def test_json_only_where_it_round_trips() -> None:
    """Lists and string keys are JSON; tuples, integer keys and classes are not."""
    assert codec.encode([1, {"a": None}]).codec == "json"
    assert codec.encode((1, 2)).codec == "cloudpickle"
    assert codec.encode({1: 2}).codec == "cloudpickle"
    encoded = codec.encode(Point(3))
    assert codec.decode(encoded.codec, encoded.data, encoded.checksum) == Point(3)


@pytest.mark.parametrize("value", [threading.Lock(), Loud(), Worse(), [Worse()]])
def test_what_cannot_be_pickled_says_why(value: object) -> None:
    """Never an exception, even when the object's own texts raise."""
    encoded = codec.encode(value)
    assert (encoded.codec, encoded.data) == ("none", None)
    assert "cannot be pickled" in (encoded.reason or "")


@pytest.mark.parametrize("value", [10**5000, [10**5000], -(10**6000), {"a": 10**5000}], ids=lambda _: "huge")
def test_integers_too_long_to_print_are_kept(value: object) -> None:
    """Python refuses to print them; they are results all the same."""
    encoded = codec.encode(value)
    assert codec.decode(encoded.codec, encoded.data, encoded.checksum) == value
    assert encoded.preview


def test_a_deep_value_is_kept() -> None:
    """Deeper than JSON's recursion, within pickle's."""
    value: list = []
    for _ in range(200):
        value = [value]
    encoded = codec.encode(value)
    assert codec.decode(encoded.codec, encoded.data, encoded.checksum) == value
    too_deep: list = []
    for _ in range(100_000):
        too_deep = [too_deep]
    assert codec.encode(too_deep).codec == "none"
    while too_deep:
        too_deep = too_deep[0]  # taken apart by hand: the interpreter would recurse


def test_damage_is_noticed() -> None:
    """A flipped byte is an error in words, not a wrong value."""
    for value in ("some text", "x" * 10_000):
        encoded = codec.encode(value)
        damaged = bytes([encoded.data[0] ^ 1]) + encoded.data[1:]
        with pytest.raises(ResultUnreadable, match="checksum"):
            codec.decode(encoded.codec, damaged, encoded.checksum)
    with pytest.raises(ResultUnreadable, match="JSONDecodeError"):
        codec.decode("json", b"{", codec.checksum(b"{"))


def test_previews_are_short_and_cheap() -> None:
    """Bounded text for huge values."""
    table = dict.fromkeys(range(1000), "y" * 1000)
    for value in ("x" * 10**6, list(range(10**6)), table, Point(10**100), b"z" * 10**6):
        assert 0 < len(codec.preview(value)) <= codec.PREVIEW_CHARACTERS
