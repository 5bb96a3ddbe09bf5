"""Which task an object came from: by identity, never by equality, and without keeping results alive."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

from flowdeck.engine.running.calls.lineage import Lineage


class Thing:
    """Something that can be watched going away."""


def test_the_very_object_is_known() -> None:
    """An equal one is not."""
    lineage, value = Lineage(), [1, 2]
    lineage.track(value, (1, 7))
    assert lineage.origin(value) == (1, 7)
    assert lineage.origin([1, 2]) is None
    assert lineage.name_of(value) is None, "plain data is compared by value"
    thing = Thing()
    lineage.track(thing, (1, 8))
    assert lineage.name_of(thing) == "1/8"


def test_what_the_interpreter_shares_is_not_tracked() -> None:
    """None, booleans, numbers, empty and one-letter strings, enumeration members, classes and functions."""
    import enum

    class Colour(enum.Enum):
        RED = 1

    lineage = Lineage()
    for value in (None, True, False, 0, 1, 10**30, 1.5, 2j, "", "a", b"", b"a", (), frozenset(), ..., NotImplemented,
                  Colour.RED, Thing, test_the_very_object_is_known, gc):  # fmt: skip
        lineage.track(value, (1, 1))
        assert lineage.origin(value) is None, repr(value)


def test_results_nobody_holds_are_let_go() -> None:
    """A million results do not stay in memory; held ones stay known."""
    lineage = Lineage()
    kept = [Thing() for _ in range(300)]
    for number, thing in enumerate(kept):
        lineage.track(thing, (1, number))
    dropped = [weakref.ref(thing) for thing in (_tracked(lineage) for _ in range(5000))]
    gc.collect()
    assert sum(ref() is not None for ref in dropped) < 1500
    assert [lineage.origin(thing) for thing in kept] == [(1, number) for number in range(300)]


def _tracked(lineage: Lineage) -> Thing:
    thing = Thing()
    lineage.track(thing, (2, 1))
    return thing


def test_what_several_tasks_returned_comes_from_none_of_them() -> None:
    """Passed on alone or within a collection or an object: its name says nothing any more; its last origin is known."""
    lineage, things = Lineage(), [Thing() for _ in range(4)]
    for number, thing in enumerate(things):
        lineage.track(thing, (1, number))
    lineage.track(things[0], (1, 0))
    assert lineage.name_of(things[0]) == "1/0", "told twice of the same task"
    lineage.track(things[1], (1, 10))
    lineage.track({"a": [(things[2], 7)]}, (1, 11))
    holder = Thing()
    holder.inner = things[3]
    lineage.track(holder, (1, 12))
    assert [lineage.name_of(thing) for thing in things] == ["1/0", None, None, None]
    assert [lineage.origin(thing) for thing in things] == [(1, 0), (1, 10), (1, 2), (1, 3)]
    assert lineage.name_of(holder) == "1/12"


def test_objects_are_gone_with_whoever_held_them() -> None:
    """At once: alone, in collections, in a state; a collection around them is known as long as it is there."""
    lineage = Lineage()
    for wrap in (lambda item: item, lambda item: [item], lambda item: {"a": 1, "b": item}, lambda item: (1, item)):
        thing = Thing()
        gone, value = weakref.ref(thing), wrap(thing)
        lineage.track(value, (1, 1))
        del thing
        assert lineage.origin(value) == (1, 1)
        assert lineage.origin(wrap(Thing())) is None
        del value
        assert gone() is None


def test_large_plain_results_go_when_they_are_dropped() -> None:
    """Bytes, text, and lists of them: what is left in memory is less than two of them, whatever their number."""
    lineage = Lineage()
    for make in (lambda: bytes(4_000_000), lambda: "x" * 4_000_000, lambda: [b"x" * 400_000 for _ in range(10)]):
        tracemalloc.start()
        for number in range(20):
            lineage.track(make(), (1, number))
        held, _ = tracemalloc.get_traced_memory()
        lineage.let_go()
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 14_000_000
        assert left < 8_000_000


def test_an_identity_that_is_used_again_is_another_objects() -> None:
    """However soon an object takes the place of one that was dropped."""
    lineage, reused = Lineage(), 0
    for make in (Thing, lambda: [1, 2], lambda: [Thing()], lambda: " ".join(["a", "b"]), lambda: {"a": Thing()}):
        for number in range(600):
            value = make()
            place = id(value)
            lineage.track(value, (1, number))
            del value
            other = make()
            reused += id(other) == place
            assert lineage.origin(other) is None
            assert lineage.name_of(other) is None
    assert reused > 100, "the test met what it is about"
