"""The error tree's root and the store's branch of it.

FlowdeckError                     everything Flowdeck raises on purpose
├── StoreError                    the store cannot serve                          (exit code 5)
│   ├── StoreMissing              no store where one was named
│   ├── StoreReadOnly             opened for writing, but the folder or file is not writable
│   ├── StoreUntrusted            somebody else could have written it, and what is in a store is run as code
│   ├── StoreLocked               another process held the write lock for too long
│   ├── StoreCorrupt              the file is damaged; never overwritten
│   ├── StoreFull                 the disk is full
│   ├── StoreNewer                made by a newer Flowdeck
│   └── StoreUnsupported          a location Flowdeck cannot keep a store at (network file system, URL)
└── StaleState                    compare-and-set found another state or attempt

``engine.errors`` grows the tree further. Every message names the thing, the place and the remedy.
"""

from __future__ import annotations


class FlowdeckError(Exception):
    """Anything Flowdeck raises on purpose; its text is made for the person who reads it."""

    exit_code = 1


class StoreError(FlowdeckError):
    """The store cannot serve."""

    exit_code = 5


class StoreMissing(StoreError):
    """No store where one was named."""


class StoreReadOnly(StoreError):
    """The store's folder or files cannot be written."""


class StoreUntrusted(StoreError):
    """Somebody else than this user could have written the store, and what is in a store is run as code."""


class StoreLocked(StoreError):
    """Another process held the write lock for longer than the busy timeout."""


class StoreCorrupt(StoreError):
    """A database file is damaged. It is left as it is; the text says how to restore."""


class StoreFull(StoreError):
    """The disk is full."""


class StoreNewer(StoreError):
    """The store was made by a newer Flowdeck."""


class StoreUnsupported(StoreError):
    """The named location is not one a store can live at."""


class StaleState(FlowdeckError):
    """A compare-and-set changed nothing: the row is in another state or belongs to a newer attempt."""


for _kind in tuple(vars().values()):
    if isinstance(_kind, type) and _kind.__module__ == __name__:
        _kind.__module__ = "flowdeck"  # what is stored names it there, wherever this file stands
