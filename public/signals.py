"""Exceptions that say how a task is to end: ``from flowdeck.signals import SKIP``."""

from __future__ import annotations

from flowdeck.engine.prefect1.signals import (
    FAIL,
    LOOP,
    PAUSE,
    RETRY,
    SKIP,
    SUCCESS,
    TRIGGERFAIL,
    VALIDATIONFAIL,
    PrefectStateSignal,
    Signal,
    signal_from_state,
)

__all__ = [
    "FAIL", "LOOP", "PAUSE", "RETRY", "SKIP", "SUCCESS", "TRIGGERFAIL", "VALIDATIONFAIL", "PrefectStateSignal",
    "Signal", "signal_from_state",
]
