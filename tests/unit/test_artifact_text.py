"""Artifacts as text: every form of table aligned, bars, links; nothing raises for odd data."""

from __future__ import annotations

import json

from flowdeck.store.rows import ArtifactRow
from flowdeck.tui.text.artifact_text import link_parts, plain_lines, progress_line, table_lines


def lines(table: object) -> list[str]:
    return table_lines(json.dumps(table), ascii_only=True)


def test_tables_of_all_forms_are_aligned() -> None:
    """Rows as dicts with different keys, columns, rows as lists, and nothing at all."""
    assert lines([{"name": "a", "n": 1}, {"name": "bcd", "n": 20}]) == ["name   n", "----  --", "a      1", "bcd   20"]
    assert lines([{"a": 1}, {"b": None}]) == ["a  b", "-  -", "1", ""]
    assert lines({"a": [1, 22], "b": ["x"]}) == [" a  b", "--  -", " 1  x", "22"]
    assert lines([[1, 2], [3]]) == ["1  2", "3"]
    assert lines([]) == ["(empty)"]
    assert lines(5) == ["5"]
    assert table_lines("no json") == ["no json"]
    assert table_lines(json.dumps([{"a": n} for n in range(300)]), max_rows=2)[-1] == "and 298 more rows"
    assert "…" in lines([["x" * 100]])[0]


def test_bars_and_links() -> None:
    """Within their bounds whatever is stored."""
    assert progress_line("50", ascii_only=True, width=4) == "##.. 50 %"
    assert progress_line("500", ascii_only=True, width=2) == "## 100 %"
    assert progress_line("x") == "x"
    assert link_parts("[there](https://example.org/a(b))") == ("there", "https://example.org/a(b)")
    assert link_parts("odd") == ("odd", "odd")
    row = ArtifactRow(1, 1, None, "k", "link", None, "[https://a](https://a)", 0)
    assert plain_lines(row) == ["https://a"]
    assert plain_lines(row._replace(kind="markdown", data="# a\nb")) == ["# a", "b"]
