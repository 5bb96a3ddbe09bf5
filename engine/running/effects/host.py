"""Who performs user code, and whose it is: the protocols by which effects, pool and callers know their run."""

from __future__ import annotations

from ...authoring.engine import Calls as Calls
