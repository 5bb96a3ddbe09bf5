"""Futures of submitted tasks under Prefect's module name: ``from flowdeck.futures import PrefectFuture, wait``."""

from __future__ import annotations

from flowdeck.engine.running.calls.futures import Future as Future
from flowdeck.engine.running.calls.futures import PrefectFuture as PrefectFuture
from flowdeck.engine.running.calls.futures import as_completed as as_completed
from flowdeck.engine.running.calls.futures import resolve_futures_to_states as resolve_futures_to_states
from flowdeck.engine.running.calls.futures import wait as wait
