"""The table writer, times and parameter values: pure pieces of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import pytest
from flowdeck import flow
from flowdeck.cli import formats, marks
from flowdeck.cli.parameters import check_values, parse_parameters
from flowdeck.cli.shapes import upstream_by_task
from flowdeck.cli.table import Cell, Column, display_width, render, truncate
from flowdeck.cli.tree import tree_lines
from flowdeck.engine.errors import ParameterError
from flowdeck.store.rows import EdgeRow, TaskRow
from flowdeck.store.states import NAMES
from flowdeck.tui.look import theme
from flowdeck.tui.text import times

COLUMNS = (
    Column("RUN", "right"), Column("NAME", min_width=6, drop_order=1), Column("STATE"),
    Column("WHY", min_width=8, drop_order=2),
)  # fmt: skip


def rows(count: int = 3) -> list[list[Cell]]:
    return [
        [Cell(f"#{10 ** i}"), Cell("数据处理" * (i + 1)), Cell("Failed", "red"), Cell("because " * (i + 2))]
        for i in range(count)
    ]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Columns give way, then leave, until every line fits."""
    lines = list(render(COLUMNS, rows(), width=width, colour=False))
    assert max(display_width(line) for line in lines) <= width
    assert all("#" in line for line in lines[1:])


def test_one_monstrous_name_pads_no_other_line() -> None:
    """Without a terminal nothing is cut, and the other lines stay short."""
    monster = [Cell("#7"), Cell("m" * 100_000), Cell("Failed", "red"), Cell("why")]
    lines = list(render(COLUMNS, [*rows(), monster], width=None, colour=False))
    assert "m" * 100_000 in lines[-1]
    assert max(map(display_width, lines[:-1])) < 700


def test_columns_are_aligned_by_display_width() -> None:
    """Wide characters take two columns, so what follows them still stands in line."""
    lines = list(render(COLUMNS, rows(), width=None, colour=False))
    starts = {display_width(line[: line.index("Failed")]) for line in lines[1:]}
    assert len(starts) == 1


def test_colour_changes_no_text() -> None:
    """A coloured table without its escape sequences is the plain table; a plain one holds none."""
    plain = list(render(COLUMNS, rows(), width=50, colour=False))
    coloured = list(render(COLUMNS, rows(), width=50, colour=True))
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in coloured] == plain
    assert coloured != plain
    assert "\x1b" not in "".join(plain)


def test_an_empty_column_takes_no_room() -> None:
    """A column that may leave and holds nothing is left out."""
    body = [[Cell("#1"), Cell(""), Cell("Completed"), Cell("")]]
    assert list(render(COLUMNS, body, width=None, colour=False)) == ["RUN  STATE", " #1  Completed"]


@pytest.mark.parametrize(("text", "width", "cut"), [
    ("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"),
    ("数据处理", 5, "数据…"), ("数据处理", 6, "数据…"), ("abc", 1, "…"),
])  # fmt: skip
def test_cut_text_ends_in_an_ellipsis(text: str, width: int, cut: str) -> None:
    """Never wider than asked, never half a wide character."""
    assert truncate(text, width) == cut
    assert display_width(cut) <= width


@pytest.mark.parametrize(("microseconds", "text"), [
    (0, "0ms"), (900, "<1ms"), (4_000, "4ms"), (999_400, "999ms"), (999_600, "1.00s"), (1_250_000, "1.25s"),
    (59_940_000, "59.9s"), (59_960_000, "1m 00s"), (187_000_000, "3m 07s"), (7_500_000_000, "2h 05m"),
    (273_600_000_000, "3d 04h"), (-5, "0ms"),
])  # fmt: skip
def test_durations_are_short(microseconds: int, text: str) -> None:
    """At most two units, the second always with two digits."""
    assert formats.duration(microseconds) == text


def test_times_are_iso_in_utc_with_microseconds() -> None:
    """The form that programs get is always the same length."""
    assert formats.iso(0) == "1970-01-01T00:00:00.000000Z"
    assert formats.iso(1_769_839_200_123_456) == "2026-01-31T06:00:00.123456Z"
    assert formats.iso(None) is None


def test_distance_in_time_is_said_both_ways() -> None:
    """What is past is ago, what is to come is in."""
    now = 1_769_839_200_000_000
    assert times.ago(now - 12_000_000, now) == "12 s ago"
    assert times.ago(now + 240_000_000, now) == "in 4 min"
    assert times.ago(now + 19_980_000_000, now) == "in 5 h 33 min"
    assert times.ago(now - 400_000, now) == "now"


def test_levels_between_the_named_ones_keep_their_number() -> None:
    """A custom level is not rounded away."""
    names = [formats.level_name(level) for level in (5, 10, 25, 40, 55)]
    assert names == ["5", "DEBUG", "INFO+5", "ERROR", "CRITICAL+5"]


def test_every_state_looks_as_in_the_console() -> None:
    """Glyphs and letters are the console's; each is one column and every type has a colour."""
    console, console_ascii = theme.make("ansi"), theme.make("ansi", ascii_only=True)
    for kind, names in NAMES.items():
        for name in names:
            assert marks.glyph(kind, name, unicode=True) == console.look(kind, name).glyph
            assert marks.glyph(kind, name, unicode=False) == console_ascii.look(kind, name).glyph
            assert display_width(marks.glyph(kind, name, unicode=True)) == 1
            assert marks.style(kind, name)


def schema(**properties: Mapping[str, Any]) -> Any:
    return lambda: {"type": "object", "properties": properties}


def test_parameter_values_are_json_where_they_read_as_json() -> None:
    """Else they are text; NaN is no JSON."""
    given = ["a=3", "b=[1, 2]", "c=true", "d=Oslo", "e=x=y", "f=", "g=NaN", 'h={"k": null}', "i=01"]
    assert parse_parameters(given, schema()) == {
        "a": 3, "b": [1, 2], "c": True, "d": "Oslo", "e": "x=y", "f": "", "g": "NaN", "h": {"k": None}, "i": "01",
    }  # fmt: skip


def test_a_text_parameter_keeps_its_text() -> None:
    """``-p zip=98101`` of a ``str`` parameter is the text, not a number."""
    assert parse_parameters(["zip=98101", 'city="Oslo"'], schema(zip={"type": "string"}, city={"type": "string"})) == {
        "zip": "98101", "city": "Oslo",
    }  # fmt: skip


def flow_taking(hint: Any) -> Any:
    """A flow of one parameter with this hint."""

    def told(v):
        pass

    told.__annotations__["v"] = hint
    return flow(told)


@pytest.mark.parametrize(
    ("hint", "typed", "meant"),
    [
        (str | None, "98101", "98101"), (str | None, "null", None), (str | None, "true", "true"),
        (int | str, "98101", 98101), (str, "1.10", "1.10"), (Decimal, "0.10000000000000000001",
                                                              Decimal("0.10000000000000000001")),
        (Decimal | None, "1.10", Decimal("1.10")), (int, "12345678901234567890123", 12345678901234567890123),
        (float, "0.1", 0.1), (list[str], "[98101, 1.10]", ["98101", "1.10"]), (list[int], "[1, 2]", [1, 2]),
        (list[str] | None, "[true]", ["true"]), (dict[str, str], '{"zip": 98101}', {"zip": "98101"}),
        (dict[str, int], '{"n": 3}', {"n": 3}), (Literal["1", "2"], "1", "1"), (str | list[int], "[1]", [1]),
        (str | int | None, "007", "007"), (Any, "3", 3),
    ],
)  # fmt: skip
def test_what_is_typed_arrives_as_its_type_takes_it(hint: Any, typed: str, meant: Any) -> None:
    """Text wherever the hint takes text and not the other kind; no digit is lost on the way."""

    told = flow_taking(hint)
    try:
        found = told.validate_parameters(parse_parameters([f"v={typed}"], told.parameters_schema))["v"]
    except ParameterError:
        found = None
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (int, "many", "whole number"), (Literal["a", "b"], "c", "'a', 'b'"), (list[int], ["x"], "whole number"),
        (list[int], 3, "list"), (bool, "perhaps", "truth"), (int | None, "x", "whole number"),
    ],
)
def test_what_the_run_would_refuse_is_refused_before(hint: Any, value: Any, words: str) -> None:
    """``submit`` says so at once, by the stored schema."""

    told = flow_taking(hint)
    with pytest.raises(ParameterError, match=words):
        check_values({"v": value}, told.parameters_schema())


@pytest.mark.parametrize("given", [["x"], ["=3"], ["a b=3"], ["a=1", "a=2"]])
def test_what_is_no_parameter_is_refused(given: list[str]) -> None:
    """With the text that was given and how to write it."""
    with pytest.raises(ParameterError, match=r"-p "):
        parse_parameters(given, schema())


def task(seq: int, key: str, state: str = "Completed", scope: int = 0, index: int = 0, child: int | None = None,
         run_id: int = 1) -> TaskRow:
    kind = next(kind for kind, names in NAMES.items() if state in names)
    return TaskRow(run_id, seq, key, scope, index, None, None, "", "task", child, kind, state, None, 1, 1, 0, 0, 1, 1,
                   None, None, "[]", None, None)


def test_the_tree_shows_who_called_what() -> None:
    """Tasks stand under the task that called them, a subflow's under its place in the parent."""
    tasks = {1: [task(1, "extract"), task(2, "clean", scope=1), task(3, "child", child=2), task(4, "load")],
             2: [task(1, "inner", run_id=2)]}
    assert [line.prefix + line.label for line in tree_lines(1, tasks)] == [
        "├─ extract", "│  └─ clean", "├─ child", "│  └─ inner", "└─ load",
    ]  # fmt: skip


def test_many_of_one_task_fold_into_one_line() -> None:
    """Under it stand only those that did not complete; unfolded there are all."""
    tasks = {1: [task(i + 1, "month", "Failed" if i == 7 else "Completed", index=i) for i in range(12)]}
    assert [line.prefix + line.label for line in tree_lines(1, tasks)] == ["└─ month ×12", "   └─ month[7]"]
    assert len(list(tree_lines(1, tasks, fold=False))) == 12


def test_a_run_inside_itself_ends_the_tree() -> None:
    """A damaged parent link makes no endless tree."""
    assert len(list(tree_lines(1, {1: [task(1, "child", child=1)]}))) == 1


def test_upstream_holds_seqs_of_the_same_run_in_order() -> None:
    """What came from another run is not named as if it were this one's."""
    edges = [EdgeRow(1, 3, 1, 2, "data"), EdgeRow(1, 3, 1, 1, "wait"), EdgeRow(1, 3, 9, 5, "data")]
    assert upstream_by_task(1, edges) == {3: [1, 2]}
