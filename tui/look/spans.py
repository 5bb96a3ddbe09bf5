"""Text in styled pieces, measured and cut by terminal cells: what every line of the console is made of."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

Span = tuple[str, Style | None]
Spans = tuple[Span, ...]
"""One cell's text in styled pieces; a style of None is the row's own."""


def spans_width(spans: Spans) -> int:
    """How many cells these take."""
    return sum(len(text) if text.isascii() else cell_len(text) for text, _ in spans)


def fit_spans(spans: Spans, width: int, base: Style, *, right: bool = False, ellipsis: str = "…") -> list[Segment]:
    """Segments of exactly ``width`` cells: padded, or cut with an ellipsis."""
    total = spans_width(spans)
    segments: list[Segment] = []
    if total <= width:
        pad = Segment(" " * (width - total), base) if total < width else None
        if pad and right:
            segments.append(pad)
        segments.extend(Segment(text, base + style if style else base) for text, style in spans if text)
        if pad and not right:
            segments.append(pad)
        return segments
    room = width - len(ellipsis)
    if room < 0:
        return [Segment(" " * width, base)] if width > 0 else []
    for text, style in spans:
        wide = cell_len(text)
        used = base + style if style else base
        if wide > room:
            segments.append(Segment(set_cell_size(text, room) + ellipsis, used))
            return segments
        segments.append(Segment(text, used))
        room -= wide
    return segments
