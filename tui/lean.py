"""Imports Textual without what the console never uses; before anything else imports it.

Textual's app module pulls in its own command palette, and with it a dozen widgets; asyncio pulls in TLS. Both are some
8 % of the console's start. Their places are taken for the moment of the import and given back at once: whoever wants
them later gets them. Where Textual does not fit that (another version), it is imported as it is.
"""

from __future__ import annotations

import sys
from types import ModuleType

_PALETTE = "textual.command"
_PALETTE_NAMES = ("CommandListItem", "CommandPalette", "DiscoveryHit", "Hit", "Hits", "Provider", "SimpleProvider")
"""What ``textual.app`` and ``textual.theme`` take from it: for a palette that ``ENABLE_COMMAND_PALETTE`` turns off."""


def import_textual() -> None:
    """Import ``textual.app``; nothing when that was done before."""
    if "textual.app" in sys.modules:
        return
    _import_asyncio()
    before = set(sys.modules)
    stand_in = ModuleType(_PALETTE)
    for name in _PALETTE_NAMES:
        setattr(stand_in, name, type(name, (), {}))
    sys.modules[_PALETTE] = stand_in
    try:
        import textual.app  # noqa: F401 - for its being imported
    except (ImportError, TypeError):
        for name in sys.modules.keys() - before:
            if name == "textual" or name.startswith("textual."):
                del sys.modules[name]
    finally:
        if sys.modules.get(_PALETTE) is stand_in:
            del sys.modules[_PALETTE]


def _import_asyncio() -> None:
    """Asyncio works without TLS, as in a Python that was built without it; the console speaks to no network."""
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # what makes an import of it fail
    try:
        import asyncio  # noqa: F401 - for its being imported
    finally:
        del sys.modules["ssl"]
