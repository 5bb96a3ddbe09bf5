"""``with tags("nightly"):`` - tags for everything that is started inside a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..context import current_tags
from ..states.state import storable


@contextmanager
def tags(*names: str) -> Iterator[frozenset[str]]:
    """Tag every flow and task run started inside the block; blocks nest and add up."""
    token = current_tags.set(current_tags.get() | frozenset(map(storable, names)))
    try:
        yield current_tags.get()
    finally:
        current_tags.reset(token)
