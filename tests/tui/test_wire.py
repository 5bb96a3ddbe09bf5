"""The thin wire: a terminal emulator fed with its writes shows what Textual meant, cell by cell."""

from __future__ import annotations

import random
import re

import pyte
import pytest
from flowdeck.tui import wire
from flowdeck.tui.wire import Cells
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

STYLES = [
    Style.parse(text)
    for text in (
        "white on black", "bold #7fb4ff on #0f131a", "#c5cedb on #22324a", "reverse red on black", "underline green",
        "dim", "not bold", "#ffffff on #101010", "bold underline", "none",
    )
]  # fmt: skip
WORDS = ["flow", "etl", "  ", "●", "━━━─", "宽字符", "é", "e\u0301", "x", "▌", "日本", "completed", "1:04:09", "│"]


def strip_of(rng: random.Random, width: int) -> Strip:
    segments: list[Segment] = []
    room = width
    while room > 0:
        text = rng.choice(WORDS)
        wide = cell_len(text)
        if wide > room:
            text, wide = " " * room, room
        segments.append(Segment(text, rng.choice(STYLES)))
        room -= wide
    return Strip(segments, width)


def look(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    return [
        [
            (char.data, char.fg, char.bg, char.bold, char.underscore, char.reverse)
            for x in range(screen.columns)
            for char in [screen.buffer[y][x]]
        ]
        for y in range(screen.lines)
    ]


def terminal(width: int, height: int) -> tuple[pyte.Screen, pyte.Stream]:
    """A terminal as Textual sets it up: without wrapping."""
    screen = pyte.Screen(width, height)
    screen.reset_mode(pyte.modes.DECAWM >> 5, private=True)
    return screen, pyte.Stream(screen)


def rendered_screen(lines: list[Strip], width: int) -> list[list[tuple[object, ...]]]:
    """What a terminal shows that got Rich's own rendering: no code of ours in it."""
    screen, stream = terminal(width, len(lines))
    for y, strip in enumerate(lines):
        stream.feed(f"\x1b[{y + 1};1H")
        for text, style, _ in strip:
            stream.feed((style or Style()).render(text, color_system=ColorSystem.TRUECOLOR))
    return look(screen)


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_frames_leaves_the_screen_that_was_meant(seed: int) -> None:
    """Random frames: whole ones, single lines, pieces of lines, scrolls up and down."""
    rng = random.Random(seed)
    width, height = 40, 14
    screen, stream = terminal(width, height)
    cells = Cells(ColorSystem.TRUECOLOR)
    cells.resize(width, height)
    lines = [strip_of(rng, width) for _ in range(height)]
    stream.feed(cells.update((y, 0, strip) for y, strip in enumerate(lines)))
    assert look(screen) == rendered_screen(lines, width)
    for _ in range(25):
        match rng.randrange(4):
            case 0:
                for y in rng.sample(range(height), 3):
                    lines[y] = strip_of(rng, width)
            case 1:
                step = rng.randint(1, 4)
                lines[2:12] = [*lines[2 + step : 12], *(strip_of(rng, width) for _ in range(step))]
            case 2:
                step = rng.randint(1, 4)
                lines[2:12] = [*(strip_of(rng, width) for _ in range(step)), *lines[2 : 12 - step]]
            case 3:
                cells.forget()
        stream.feed(cells.update((y, 0, strip) for y, strip in enumerate(lines)))
        assert look(screen) == rendered_screen(lines, width)


def test_a_frame_that_changes_nothing_writes_nothing() -> None:
    """Equal frames cost no byte, also when styles carry what the terminal never sees."""
    cells = Cells(ColorSystem.TRUECOLOR)
    cells.resize(20, 2)
    plain = Style.parse("white on black")
    tagged = plain + Style.from_meta({"offset": (3, 4)})
    assert cells.update([(0, 0, Strip([Segment("hello" + " " * 15, plain)]))])
    assert cells.update([(0, 0, Strip([Segment("hello" + " " * 15, tagged)]))]) == ""


def test_one_changed_cell_costs_a_handful_of_bytes() -> None:
    """A digit that ticks is a jump, a colour and the digit."""
    cells = Cells(ColorSystem.TRUECOLOR)
    cells.resize(120, 4)
    style = Style.parse("#c5cedb on #0f131a")
    cells.update([(2, 0, Strip([Segment(f"{'etl 1:03':<120}", style)]))])
    written = cells.update([(2, 0, Strip([Segment(f"{'etl 1:04':<120}", style)]))])
    assert written.endswith("4\x1b[0m")
    assert len(written) < 60


def test_scrolling_lines_move_instead_of_being_sent_again() -> None:
    """A log that follows its end sends the new line, not the screen."""
    rng = random.Random(3)
    cells = Cells(ColorSystem.TRUECOLOR)
    cells.resize(100, 30)
    lines = [strip_of(rng, 100) for _ in range(30)]
    cells.update((y, 0, strip) for y, strip in enumerate(lines))
    moved = [*lines[1:29], strip_of(rng, 100)]
    whole = sum(len(segment.text) for strip in moved for segment in strip)
    written = cells.update((y, 0, strip) for y, strip in enumerate(moved))
    assert len(written) < whole / 4
    assert "\x1b[1;29r" in written


def test_half_of_a_wide_character_never_stays_behind() -> None:
    """Covering one half of a wide character blanks the other."""
    base = Style.parse("white on black")
    screen, stream = terminal(10, 1)
    cells = Cells(ColorSystem.TRUECOLOR)
    cells.resize(10, 1)
    stream.feed(cells.update([(0, 0, Strip([Segment("ab宽cd    ", base)]))]))
    stream.feed(cells.update([(0, 3, Strip([Segment("X", base)]))]))
    assert screen.display[0].rstrip() == "ab Xcd"


def test_the_colour_depth_of_the_terminal_is_kept_to() -> None:
    """A 256-colour terminal gets no 24-bit code."""
    cells = Cells(ColorSystem.EIGHT_BIT)
    cells.resize(10, 1)
    written = cells.update([(0, 0, Strip([Segment("x" * 10, Style.parse("#7fb4ff on #0f131a"))]))])
    assert "38;5;" in written
    assert "38;2;" not in written


HOSTILE = "a\x1b]52;c;QQ==\x07b\x1b[2J\x9b31m\x00\x08\u202ec\u2066\u200bd\x7f\ue000"
DANGEROUS = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u2066", "\u200b"}


def test_no_text_of_a_widget_steers_the_terminal() -> None:
    """Whatever a strip holds: controls, escapes and what turns the order of letters stop at the wire."""
    cells = Cells(ColorSystem.TRUECOLOR)
    cells.resize(40, 2)
    for hostile in (HOSTILE, HOSTILE + "宽", "\x1b[31m", "e\u0301" + HOSTILE):
        strip = Strip([Segment(hostile, Style.parse("bold"))]).adjust_cell_length(40)
        written = cells.update([(0, 0, strip), (1, 0, Strip.blank(40))])
        texts = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", written)
        assert not DANGEROUS & set(texts)
        assert "52;c" in texts or hostile == "\x1b[31m"
        assert "\x1b]" not in written
        assert "\x1b[2J" not in written
        cells.forget()


def test_the_stock_wire_is_guarded_too() -> None:
    """A frame that Textual itself writes holds no more of them."""
    bad, good = Strip([Segment(HOSTILE)]), Strip([Segment("fine")])
    layout = wire._guard_stock(wire.LayoutUpdate([[bad, good]], Region(0, 0, 40, 1)))
    chops = wire._guard_stock(wire.ChopsUpdate([{0: bad, 20: None, 30: good}], [(0, 0, 40)], [[20, 30, 40]]))
    for strip in [*layout.strips[0], *(each for each in chops.chops[0].values() if each is not None)]:
        assert not DANGEROUS & set("".join(segment.text for segment in strip))
    assert layout.strips[0][1] is good
    assert chops.chops[0][30] is good
