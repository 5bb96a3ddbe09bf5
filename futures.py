"""Futures of submitted tasks under Prefect's module name: ``from flowdeck.futures import PrefectFuture, wait``."""

from __future__ import annotations

from .engine.futures import Future as Future
from .engine.futures import PrefectFuture as PrefectFuture
from .engine.futures import as_completed as as_completed
from .engine.futures import resolve_futures_to_states as resolve_futures_to_states
from .engine.futures import wait as wait
