"""The filter language of the lists. Pure.

``state:failed,crashed flow:etl age:<1h !backfill ^nightly``: terms joined by *and*; a term is ``field:value`` or a
regular expression over id, flow, name, state, tags and cause; ``!`` in front negates. Values joined by commas are
alternatives. A pattern without capitals ignores case; one that is no valid expression is taken literally.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...store.patterns import pattern_of as compile_pattern
from ...store.rows import RunRow
from ...store.states import NAMES, STATE_TYPES, TERMINAL_TYPES

Test = Callable[[RunRow, int], bool]

GROUPS: Final[dict[str, frozenset[str]]] = {
    "live": frozenset(STATE_TYPES) - TERMINAL_TYPES,
    "ended": TERMINAL_TYPES,
    "problem": frozenset({"FAILED", "CRASHED"}),
    "waiting": frozenset({"SCHEDULED", "PENDING", "PAUSED"}),
}
"""Words for several states at once."""
FIELDS: Final = ("state", "flow", "name", "tag", "id", "age", "took", "by", "attempt", "cause")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"(?P<sign><=|>=|<|>)?(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhdw])")
_NUMBER: Final = re.compile(r"(?P<sign><=|>=|<|>|=)?#?(?P<number>\d+)")


@dataclass(frozen=True)
class Filter:
    """A parsed filter."""

    text: str
    tests: tuple[Test, ...]
    states: frozenset[str] | None
    """The state types a match can have, when the filter says: what the store can narrow by."""
    problem: str | None
    """What of the text was not understood, for the person who typed it."""

    def __bool__(self) -> bool:
        return bool(self.tests)

    def matches(self, run: RunRow, now_us: int) -> bool:
        """Whether this run passes."""
        return all(test(run, now_us) for test in self.tests)


def parse(text: str) -> Filter:
    """Read a filter; never raises, ``problem`` says what was odd."""
    tests: list[Test] = []
    states: frozenset[str] | None = None
    problem: str | None = None
    for term in text.split():
        negated = term.startswith("!") and len(term) > 1
        body = term[1:] if negated else term
        field, colon, value = body.partition(":")
        field = field.lower()
        if colon and field in FIELDS:
            if not value:
                continue
            try:
                test = _FIELD_TESTS[field](value)
            except ValueError as error:
                problem = str(error)
                continue
            if field == "state" and not negated:
                kinds = _state_types(value)
                states = kinds if states is None else states & kinds
        else:
            if colon and re.fullmatch(r"[a-z]+", field) and field not in FIELDS:
                problem = f"no field {field}: ({', '.join(FIELDS)})"
            test = _pattern_test(body)
        tests.append(_negate(test) if negated else test)
    return Filter(text.strip(), tuple(tests), states, problem)


def _negate(test: Test) -> Test:
    return lambda run, now_us: not test(run, now_us)


def _pattern_test(text: str) -> Test:
    search = compile_pattern(text).search

    def test(run: RunRow, _: int) -> bool:
        line = f"#{run.id} {run.flow_name} {run.name} {run.state_name} {run.tags if run.tags != '[]' else ''}"
        return search(line) or (run.cause is not None and search(run.cause))

    return test


def _state_types(value: str) -> frozenset[str]:
    """The types that these words can mean."""
    kinds: set[str] = set()
    for word in value.lower().split(","):
        if word in GROUPS:
            kinds |= GROUPS[word]
            continue
        for kind, names in NAMES.items():
            if kind.lower().startswith(word) or any(name.lower().startswith(word) for name in names):
                kinds.add(kind)
    return frozenset(kinds) or frozenset(STATE_TYPES)


def _state_test(value: str) -> Test:
    words = [word for word in value.lower().split(",") if word]
    groups = frozenset().union(*(GROUPS[word] for word in words if word in GROUPS))
    starts = tuple(word for word in words if word not in GROUPS)

    def test(run: RunRow, _: int) -> bool:
        if run.state_type in groups:
            return True
        return bool(starts) and (
            run.state_type.lower().startswith(starts) or run.state_name.lower().startswith(starts)
        )

    return test


def _text_test(read: Callable[[RunRow], str]) -> Callable[[str], Test]:
    def make(value: str) -> Test:
        searches = [compile_pattern(part).search for part in value.split(",") if part]
        return lambda run, _: any(search(read(run)) for search in searches)

    return make


def _tag_test(value: str) -> Test:
    quoted = [f'"{part}"' for part in value.split(",") if part]
    return lambda run, _: any(part in run.tags for part in quoted)


def _compare(sign: str | None, left: float, right: float, default: str) -> bool:
    match sign or default:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case _:
            return left == right


def _span_test(read: Callable[[RunRow, int], int | None], default: str) -> Callable[[str], Test]:
    def make(value: str) -> Test:
        found = _SPAN.fullmatch(value.lower())
        if found is None:
            raise ValueError(f"{value!r} is no span of time: write <1h, >30m, 2d")
        limit = float(found["number"]) * _UNITS[found["unit"]] * 1_000_000
        sign = found["sign"]

        def test(run: RunRow, now_us: int) -> bool:
            span = read(run, now_us)
            return span is not None and _compare(sign, span, limit, default)

        return test

    return make


def _number_test(read: Callable[[RunRow], int]) -> Callable[[str], Test]:
    def make(value: str) -> Test:
        found = [_NUMBER.fullmatch(part) for part in value.split(",") if part]
        if not all(found):
            raise ValueError(f"{value!r} is no number: write 42 or >40")
        wanted = [(match["sign"], int(match["number"])) for match in found if match]
        return lambda run, _: any(_compare(sign, read(run), number, "=") for sign, number in wanted)

    return make


def took_us(run: RunRow, now_us: int) -> int | None:
    """How long a run ran, or runs already; None before it started, and while it waits in its first attempt."""
    if run.started_at_us is None:
        return None
    if run.state_type in ("SCHEDULED", "PAUSED"):
        return run.duration_us
    if run.ended_at_us is not None:
        return run.duration_us if run.duration_us is not None else run.ended_at_us - run.started_at_us
    return now_us - run.started_at_us


_FIELD_TESTS: Final[dict[str, Callable[[str], Test]]] = {
    "state": _state_test,
    "flow": _text_test(lambda run: run.flow_name),
    "name": _text_test(lambda run: run.name),
    "by": _text_test(lambda run: run.actor),
    "cause": _text_test(lambda run: run.cause or ""),
    "tag": _tag_test,
    "id": _number_test(lambda run: run.id),
    "attempt": _number_test(lambda run: run.attempt),
    "age": _span_test(lambda run, now_us: now_us - run.created_at_us, "<"),
    "took": _span_test(took_us, ">"),
}
