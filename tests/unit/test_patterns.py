"""Patterns that people type end soon on whatever text, and find what Python's ``re`` finds."""

from __future__ import annotations

import random
import re
import time

import pytest
from flowdeck.store import patterns
from flowdeck.store.patterns import Pattern, PatternError, pattern_of
from flowdeck.tui.text.filter import parse

LONG = 60_000
GENEROUS_SECONDS = 60.0
"""Trying would take hours at least."""


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+$", "a" * LONG + "!"), ("(a|a)*b", "a" * LONG), (".*.*.*.*=x", "a" * LONG), ("a+b", "a" * LONG),
        ("(x+x+)+y", "x" * LONG), (r"\s+$", " " * LONG + "x"), (r"^(\w+\s?)*$", "word " * 10_000 + "!"),
        ("(.*)*b", "a" * LONG), ("((a?)?)*b", "a" * LONG), ("(a?){60}b", "a" * 300), ("(?i)(A+)+$", "a" * LONG + "!"),
    ],
)  # fmt: skip
def test_no_pattern_hangs(pattern: str, text: str) -> None:
    """Nested, alternative, following and counted repeats; bare searching and marking what was found."""
    begun = time.monotonic()
    assert not Pattern(pattern).search(text)
    assert not any(end == len(text) for _, end in Pattern(pattern).spans(text[-3000:]))
    assert time.monotonic() - begun < GENEROUS_SECONDS


def test_what_only_trying_could_answer_is_refused_in_words() -> None:
    """And taken as it is where any text is taken: the console's filters."""
    for hard in (r"(a+)\1+b", "(?=a+)+b", "((a{100}){100}){100}", "(", "a{1,99999999999}"):
        with pytest.raises(PatternError, match=r"cannot be searched for|too large|no regular expression"):
            Pattern(hard)
        assert pattern_of(hard).search(f"the text {hard} as it is")
    assert Pattern(r"(a|b)\1").search("xbb")


def test_it_finds_what_re_finds() -> None:
    """On patterns and texts by chance, whichever way is taken."""
    chance = random.Random(20261130)

    def made(depth: int = 0) -> str:
        kind = chance.random()
        if depth > 3 or kind < 0.35:
            return chance.choice(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", "1", " ", "é"])
        if kind < 0.5:
            return made(depth + 1) + made(depth + 1)
        if kind < 0.6:
            return f"({made(depth + 1)}|{made(depth + 1)})"
        if kind < 0.85:
            return f"({made(depth + 1)}){chance.choice(['*', '+', '?', '{1,3}', '{2}', '*?', '+?', '{2,}'])}"
        return chance.choice(["^", r"\b", ""]) + made(depth + 1) + chance.choice(["$", "", r"\b"])

    for _ in range(1500):
        text = made()
        try:
            pattern = Pattern(text)
            automaton = patterns._Automaton(text, patterns._parser.parse(text, 0))
        except PatternError:
            continue
        for _ in range(4):
            where = "".join(chance.choice("ab1 _é") for _ in range(chance.randrange(12)))
            found = re.search(text, where)
            assert pattern.search(where) is automaton.search(where) is (found is not None), (text, where)
            first = next(automaton.spans(where), None)
            assert (first and first[0]) == (found and found.start()), (text, where)


def test_the_filter_of_a_list_ends(store: object) -> None:
    """A hostile name, a hostile pattern."""
    del store
    from flowdeck.store.rows import RunRow

    run = RunRow._make([None] * len(RunRow._fields))._replace(
        id=1, flow_name="a" * 5000 + "!", name="n", state_name="Completed", tags="[]", state_type="COMPLETED",
    )  # fmt: skip
    for text in ("(a+)+$", "flow:(a+)+$", "!(a|a)*b", "name:(a*)*b"):
        parse(text).matches(run, 0)


def test_equal_patterns_are_equal() -> None:
    """They are parts of queries, which are looked up."""
    assert pattern_of("abc") == pattern_of("abc")
    assert len({pattern_of("abc"), pattern_of("abc"), pattern_of("Abc")}) == 2
    assert pattern_of("a.c").search("xABCx")
    assert not pattern_of("A.C").search("abc")
