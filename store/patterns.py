"""Patterns that people type, searched for in texts that anybody wrote: whatever both are, a search ends soon. Pure.

Python's ``re`` tries one way after the other, and ``(a+)+$`` has more ways than seconds. It is asked only where the
number of ways is small for the text's length: no repeats without a bound, or up to three of single characters that do
not stand within each other, in texts short enough for that. Everything else walks all ways at once, as an automaton
whose steps are remembered (time by text and pattern, never by ways). What only trying can answer (references back,
looking around) beside unbounded repeats is refused with ``PatternError``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

_parser: Any = re._parser  # type: ignore[attr-defined]  # the way that re itself reads an expression
_compiler: Any = re._compiler  # type: ignore[attr-defined]

MOST_WAYS: Final = 64
"""More alternatives are not tried one after the other."""
MOST_STATES: Final = 300
"""What a step of the automaton costs at most; a pattern that needs more is refused."""
_SHORT_ENOUGH: Final = (1 << 62, 2_000, 200, 60)
"""By how many unbounded repeats follow each other: how long a text may be to be searched by trying."""
_REMEMBERED: Final = 20_000
"""Steps; then all are forgotten and found again."""
_HARD: Final = 1 << 30
_SINGLE: Final = frozenset({"LITERAL", "NOT_LITERAL", "IN", "ANY", "CATEGORY", "RANGE"})
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


class PatternError(ValueError):
    """What was typed is no pattern, or none that can be searched for in bounded time; says why."""


class Pattern:
    """A pattern; two of the same text and case are equal."""

    def __init__(self, text: str, *, ignores_case: bool = False) -> None:
        flags = re.IGNORECASE if ignores_case else 0
        try:
            self._by_trying = re.compile(text, flags)
            tree = _parser.parse(text, flags)
        except (re.error, OverflowError, RecursionError) as error:
            raise PatternError(f"{text!r} is no regular expression: {error}") from None
        self.pattern = text
        self._ignores_case = ignores_case
        ways, repeats = _ways(tree)
        self._short_enough = _SHORT_ENOUGH[repeats] if ways <= MOST_WAYS and repeats < len(_SHORT_ENOUGH) else 0
        self._automaton = None if self._short_enough == _SHORT_ENOUGH[0] else _Automaton(text, tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and (other.pattern, other._ignores_case) == (self.pattern, self._ignores_case)

    def __hash__(self) -> int:
        return hash((self.pattern, self._ignores_case))

    def __repr__(self) -> str:
        return f"Pattern({self.pattern!r}, ignores_case={self._ignores_case})"

    def search(self, text: str) -> bool:
        """Whether it is found anywhere in the text."""
        if self._automaton is None or len(text) <= self._short_enough:
            return self._by_trying.search(text) is not None
        return self._automaton.search(text)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it is found, from left to right; empty finds are left out."""
        if self._automaton is None or len(text) <= self._short_enough:
            found: Iterator[tuple[int, int]] = (match.span() for match in self._by_trying.finditer(text))
        else:
            found = self._automaton.spans(text)
        return (span for span in found if span[1] > span[0])


def pattern_of(text: str) -> Pattern:
    """A text as people type it: a regular expression if it can be one, else itself; a capital makes case matter."""
    ignores_case = text == text.lower()
    try:
        return Pattern(text, ignores_case=ignores_case)
    except PatternError:
        return Pattern(re.escape(text), ignores_case=ignores_case)


def _ways(tree: Any) -> tuple[int, int]:
    """How many ways there are to match at one place, and how many unbounded repeats follow each other."""
    ways, repeats = 1, 0
    for op, argument in tree:
        name = str(op)
        if name == "SUBPATTERN":
            inner, more = _ways(argument[3])
        elif name == "BRANCH":
            parts = [_ways(part) for part in argument[1]]
            inner, more = sum(part[0] for part in parts), max(part[1] for part in parts)
        elif name in _REPEATS:
            inner, more = _ways_of_repeat(*argument)
        elif name in ("ASSERT", "ASSERT_NOT"):
            inner, more = _ways(argument[1])
        elif name == "ATOMIC_GROUP":
            inner, more = _ways(argument)
        elif name == "GROUPREF_EXISTS":
            inner, more = _HARD, 0
        else:
            inner, more = 1, 0
        ways, repeats = min(_HARD, ways * inner), repeats + more
    return ways, repeats


def _ways_of_repeat(least: int, most: int, body: Any) -> tuple[int, int]:
    inner, more = _ways(body)
    if most <= MOST_WAYS and more == 0:
        return min(_HARD, sum(inner**count for count in range(least, most + 1))), 0
    is_single = len(body) == 1 and str(body[0][0]) in _SINGLE
    return (1, 1) if is_single else (_HARD, 1)


# ---------------------------------------------------------------------------------------------------- all ways at once


class _Here:
    """A state of the search: the places in the pattern that are reached, and what stands before."""

    __slots__ = ("before", "places", "steps")

    def __init__(self, places: frozenset[int], before: str | None) -> None:
        self.places = places
        self.before = before
        self.steps: dict[str | None, tuple[_Here | None, bool]] = {}


class _Automaton:
    """The pattern as places with ways between them; place 0 is the end of the pattern."""

    def __init__(self, text: str, tree: Any) -> None:
        self._text = text
        self._flags = tree.state.flags
        self._state = tree.state
        self._tests: list[Any] = [None]
        """By place: what takes one character there; None where none is taken."""
        self._next: list[tuple[int, ...]] = [()]
        self._conditions: list[str | None] = [None]
        self._fits: dict[tuple[int, str], bool] = {}
        self._known: dict[tuple[frozenset[int], str | None], _Here] = {}
        self._remembered = 0
        self._first = self._sequence(tree, 0)

    def search(self, text: str) -> bool:
        """Whether some way comes to the end."""
        here = self._here(frozenset((self._first,)), None)
        for char in text:
            step = here.steps.get(char)
            if step is None:
                step = self._step(here, char)
            following, has_ended = step
            if has_ended or following is None:
                return True
            here = following
        return self._step(here, None)[1]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """The leftmost finds, each the longest from its beginning."""
        at = 0
        while at <= len(text):
            found = self._leftmost(text, at)
            if found is None:
                return
            yield found
            at = max(found[1], found[0] + 1)

    def _leftmost(self, text: str, at: int) -> tuple[int, int] | None:
        reached: dict[int, int] = {}
        best: tuple[int, int] | None = None
        for place in range(at, len(text) + 1):
            if best is None:
                reached.setdefault(self._first, place)
            before = text[place - 1] if place else None
            after = text[place] if place < len(text) else None
            begun: dict[int, int] = {}
            for state, start in sorted(reached.items(), key=lambda item: item[1]):
                if best is None or start <= best[0]:
                    for one in self._closure((state,), before, after):
                        begun.setdefault(one, start)
            if 0 in begun and (best is None or begun[0] <= best[0]):
                best = (begun[0], place)
            reached = {}
            for state, start in begun.items():
                if after is not None and (best is None or start <= best[0]) and self._takes(state, after):
                    following = self._next[state][0]
                    reached[following] = min(start, reached.get(following, start))
            if not reached and best is not None:
                return best
        return best

    def _here(self, places: frozenset[int], before: str | None) -> _Here:
        kind = before if before is None or before == "\n" else "a" if _is_word(before) else " "
        key = (places, kind)
        found = self._known.get(key)  # several threads may look, and one forget
        if found is None:
            found = self._known[key] = _Here(places, kind)
        return found

    def _step(self, here: _Here, char: str | None) -> tuple[_Here | None, bool]:
        """From a state over one character: the next, and whether the end of the pattern was reached before it."""
        reached = self._closure(here.places, here.before, char)
        following = None
        if 0 not in reached and char is not None:
            taken = {self._next[place][0] for place in reached if self._takes(place, char)}
            following = self._here(frozenset(taken | {self._first}), char)
        self._remembered += 1
        if self._remembered > _REMEMBERED:
            self._remembered = 0
            self._known.clear()
            self._fits.clear()
            return following, 0 in reached
        here.steps[char] = step = (following, 0 in reached)
        return step

    def _closure(self, places: Any, before: str | None, after: str | None) -> set[int]:
        """The places that are reached without taking a character."""
        todo, reached = list(places), set(places)
        while todo:
            place = todo.pop()
            if self._tests[place] is not None:
                continue
            condition = self._conditions[place]
            if condition is not None and not self._holds(condition, before, after):
                continue
            for following in self._next[place]:
                if following not in reached:
                    reached.add(following)
                    todo.append(following)
        return reached

    def _takes(self, place: int, char: str) -> bool:
        test = self._tests[place]
        if test is None:
            return False
        key = (place, char)
        found = self._fits.get(key)
        if found is None:
            found = self._fits[key] = test(char) is not None
        return found

    def _holds(self, condition: str, before: str | None, after: str | None) -> bool:
        in_lines = bool(self._flags & re.MULTILINE)
        if condition == "AT_BEGINNING_STRING" or (condition == "AT_BEGINNING" and not in_lines):
            return before is None
        if condition == "AT_BEGINNING":
            return before in (None, "\n")
        if condition == "AT_END_STRING":
            return after is None
        if condition == "AT_END":
            return after in (None, "\n")
        is_boundary = _is_word(before) != _is_word(after)
        return is_boundary == (condition == "AT_BOUNDARY")

    # -- its making ----------------------------------------------------------------------------------------------

    def _place(self, following: tuple[int, ...], test: Any = None, condition: str | None = None) -> int:
        if len(self._tests) >= MOST_STATES:
            raise PatternError(f"{self._text!r} is too large to be searched for: give smaller counts in its repeats")
        self._tests.append(test)
        self._next.append(following)
        self._conditions.append(condition)
        return len(self._tests) - 1

    def _sequence(self, tree: Any, following: int) -> int:
        for op, argument in reversed(list(tree)):
            following = self._one(str(op), op, argument, following)
        return following

    def _one(self, name: str, op: Any, argument: Any, following: int) -> int:
        if name in _SINGLE:
            single = _parser.SubPattern(self._state, [(op, argument)])
            return self._place((following,), _compiler.compile(single, self._flags).match)
        if name == "SUBPATTERN":
            return self._sequence(argument[3], following)
        if name == "BRANCH":
            return self._place(tuple(self._sequence(part, following) for part in argument[1]))
        if name == "AT":
            return self._place((following,), condition=str(argument))
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, body = argument
            return self._repeat(least, most, body, following)
        raise PatternError(
            f"{self._text!r} cannot be searched for: references back and looking around go with no unbounded repeats"
        )

    def _repeat(self, least: int, most: int, body: Any, following: int) -> int:
        if most >= MOST_STATES:
            loop = self._place(())
            self._next[loop] = (self._sequence(body, loop), following)
            following = loop
        else:
            end = following
            for _ in range(most - least):
                following = self._place((self._sequence(body, following), end))
        for _ in range(least):
            following = self._sequence(body, following)
        return following


def _is_word(char: str | None) -> bool:
    return char is not None and (char.isalnum() or char == "_")
