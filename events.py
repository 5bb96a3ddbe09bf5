"""Events under Prefect's module name: ``from flowdeck.events import emit_event``."""

from __future__ import annotations

from .engine.user_events import Event as Event
from .engine.user_events import emit_event as emit_event
