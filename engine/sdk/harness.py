"""A store for tests: ``with flowdeck_test_harness():`` keeps what runs within it apart from the real one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...store.location import ENVIRONMENT_VARIABLE
from ...store.opening import open_store


@contextmanager
def flowdeck_test_harness(server_startup_timeout: Any = None) -> Iterator[Path]:
    """Have every run, variable and artifact of the block in a store of its own, which is gone after it.

    Gives the store's folder. It holds for all threads, and for processes started within the block: the place is named
    by ``FLOWDECK_STORE``. Blocks nest. ``server_startup_timeout`` is Prefect's; there is no server to wait for.
    """
    del server_startup_timeout
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    # What runs within the block may write to its end and a bit later (a pool's last worker), which is no error here.
    with tempfile.TemporaryDirectory(prefix="flowdeck-test-", ignore_cleanup_errors=True) as folder:
        store = Path(folder, "store")
        open_store(store)
        os.environ[ENVIRONMENT_VARIABLE] = str(store)
        try:
            yield store
        finally:
            if before is None:
                os.environ.pop(ENVIRONMENT_VARIABLE, None)
            else:
                os.environ[ENVIRONMENT_VARIABLE] = before


prefect_test_harness = flowdeck_test_harness
"""Prefect's name for it."""
