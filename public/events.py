"""Events under Prefect's module name: ``from flowdeck.events import emit_event``."""

from __future__ import annotations

from flowdeck.engine.sdk.events import Event as Event
from flowdeck.engine.sdk.events import emit_event as emit_event
