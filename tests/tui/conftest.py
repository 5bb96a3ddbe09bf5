"""The console on a real store: seeded runs, the app driven by keys."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flowdeck.tui.asks import Asker
from flowdeck.tui.console import Console
from flowdeck.tui.feed.thread import Feed
from flowdeck.tui.look import theme
from textual.pilot import Pilot


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tui_tests_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_SEED = _load("seed")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seeder(tmp_path: Path) -> Iterator[Any]:
    """Writes runs into an empty store."""
    one = _SEED.Seeder(tmp_path / "store")
    yield one
    one.close()


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A store with one of everything, and the ids of its runs with a part to play."""
    folder = tmp_path / "filled"
    return folder, _SEED.fill(folder)


class Driven:
    """The app, its pilot, and waiting on what the screen says."""

    def __init__(self, app: Console, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        names = {" ": "space", ":": "colon", "<": "less_than_sign", "!": "exclamation_mark", "=": "equals_sign"}
        await self.pilot.press(*(names.get(char, char) for char in text))

    def lines(self) -> list[str]:
        """What the screen shows."""
        screen = self.app.screen
        update = screen._compositor.render_update(full=True, screen_stack=self.app._background_screens)
        return ["".join(segment.text for strip in line for segment in strip) for line in update.strips]

    def text(self) -> str:
        return "\n".join(self.lines())

    async def until(self, condition: Callable[[], object], timeout: float = 40.0) -> None:
        """Until the condition holds; fails with the screen."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"not so after {timeout} s; the screen:\n{self.text()}"
            await self.pilot.pause(0.02)

    async def shows(self, *texts: str) -> None:
        """Until the screen shows all of these."""
        await self.until(lambda: all(text in self.text() for text in texts))


Drive = Callable[..., AbstractAsyncContextManager[Driven]]


@pytest.fixture
def drive() -> Iterator[Drive]:
    """Starts the console on a folder, without a terminal."""
    before = theme.palette()

    @asynccontextmanager
    async def run(
        folder: Path, *, size: tuple[int, int] = (120, 32), read_only: bool = False, start: str | None = None,
        keymap: dict[str, str] | None = None, depth: theme.Depth = "colour", ascii_only: bool = False,
    ) -> AsyncIterator[Driven]:  # fmt: skip
        theme.use(theme.make(depth, ascii_only=ascii_only))
        feed, asker = Feed(folder), Asker(folder, read_only=read_only)
        feed.start()
        asker.start()
        app = Console(feed, asker, read_only=read_only, start=start, keymap=keymap)
        try:
            async with app.run_test(size=size) as pilot:
                yield Driven(app, pilot)
        finally:
            feed.stop()
            asker.stop()
            await asyncio.to_thread(feed.join, 5)
            await asyncio.to_thread(asker.join, 5)

    yield run
    theme.use(before)
