"""The border for data: nothing that passes it can do anything to a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from flowdeck.tui.text.sanitize import clean, clean_lines, to_ascii
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

HOSTILE = [
    "\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]52;c;QUFB\x1b\\", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x9b31m",
    "\x90q#0;2;0;0;0\x9c", "\x1bP$q\x1b\\", "\x1b[6n", "\x1b[?1049l", "\x1bc", "\x1b#8", "\x0e\x0f", "\x00\x07\x08\x7f",
    "a\rb", "a\x0bb\x0cc", "\x85\u2028\u2029", "\u202egnp.exe", "\u2066x\u2069", "\u200b\u200d\ufeff\u2060", "\ud800",
    "e" + "\u0301" * 50, "\u0301start", "\U000e0041\U000e007f", "👩\u200d💻", "\t\t", "\uffff\U0010ffff",
    "[@click=app.exit()]x[/]",
    "\x1b[31mred\x1b[0m", "\x1b[", "\x1b", "\u3164\u115f", "\ufff9a\ufffab\ufffb",
]  # fmt: skip


def is_harmless(text: str) -> bool:
    return all(
        unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") and char.isprintable() for char in text
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_the_hostile_corpus_comes_out_harmless(text: str) -> None:
    """No control byte, no escape, no bidirectional control, nothing invisible; and it can be encoded."""
    for shown in (clean(text), clean(f"a{text}b"), *clean_lines(text)):
        assert is_harmless(shown), repr(shown)
        shown.encode("utf-8")


@given(st.text(alphabet=st.characters(), max_size=80))
def test_any_text_at_all_comes_out_harmless(text: str) -> None:
    """Also what nobody thought of; twice is as good as once."""
    shown = clean(text)
    assert is_harmless(shown), repr(shown)
    assert clean(shown) == shown
    assert to_ascii(shown).isascii()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_lines_hold_no_line_break(text: str) -> None:
    """What goes into a list row stays in its row."""
    assert not any("\n" in line or "\r" in line for line in clean_lines(text))


def test_what_was_visible_stays_visible() -> None:
    """Words of every script, wide characters, accents and brackets pass unchanged; colours go, escapes show."""
    for text in ("etl [prod] {a: 1}", "naïve café", "日本語 宽字符", "Ελληνικά", "עברית", "100 % · a–b → c"):
        assert clean(text) == text
    assert clean("\x1b[1;31merror\x1b[0m: no") == "error: no"
    assert clean("\x1b]0;x\x07") == "␛]0;x␇"
    assert clean("a\tb") == "a       b"
    assert cell_len(clean("\U0001f469\u200d\U0001f4bb")) == 4


def test_long_lines_are_cut_before_any_work_on_them() -> None:
    """A line of ten million characters costs no more than one of a screen."""
    assert len(clean("x" * 10_000_000)) == 16_384
    assert clean("x" * 10_000_000).endswith("…")
