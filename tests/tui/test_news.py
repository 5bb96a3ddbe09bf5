"""What the feed hands over: merged while nobody takes it, taken in slices when it is much."""

from __future__ import annotations

from typing import Any

from flowdeck.tui.models.news import News, Opened, Trouble


def opened(first: int, last: int, **more: Any) -> Opened:
    """Tasks of run 1 by their numbers; what stands for their rows does not matter here."""
    rows: Any = {(1, seq): f"row {seq}" for seq in range(first, last)}
    return Opened(1, tasks=rows, **more)


def test_slices_hold_everything_once_and_in_order() -> None:
    """The first has all that is no task; little news stay whole."""
    news = News(trouble=Trouble("locked", "wait"), opened=opened(0, 1201, fresh=True, log_changed=True))
    first, *others = news.slices(500)
    assert first.trouble is not None
    assert first.opened is not None
    assert first.opened.fresh
    assert first.opened.log_changed
    assert [len(each.opened.tasks) for each in (first, *others) if each.opened is not None] == [500, 500, 201]
    assert not any(each.trouble or each.opened.fresh for each in others if each.opened is not None)
    together = [key for each in (first, *others) if each.opened is not None for key in each.opened.tasks]
    assert news.opened is not None
    assert together == list(news.opened.tasks)
    assert news.slices(1201) == [news]
    assert News(searching=True).slices(1) == [News(searching=True)]


def test_newer_news_go_over_older_ones() -> None:
    """Of one run the last row of each task; another run, or all of it anew, replaces what was."""
    older, newer = News(opened=opened(0, 3)), News(opened=opened(2, 5, log_changed=True))
    merged = older.merged(newer).opened
    assert merged is not None
    assert sorted(seq for _, seq in merged.tasks) == [0, 1, 2, 3, 4]
    assert merged.log_changed
    assert older.merged(News(opened=opened(9, 10, fresh=True))).opened == opened(9, 10, fresh=True)
