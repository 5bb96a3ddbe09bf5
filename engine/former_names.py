"""Where what older versions named in stored values stands now: a store once made stays readable.

New values name the public modules only (``flowdeck.ShResult``, ``flowdeck.errors.CommandFailed``). Versions before them
named the files of the engine, which have moved since. Entries are added when a file moves and never removed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

_ENGINE: Final = __name__.partition(".engine.")[0] + ".engine"
FORMER: Final[dict[str, tuple[str, ...]]] = {}
"""A module's former name, below the engine, and the modules that hold now what it held."""


def find(module: str, name: str) -> Any:
    """The class or function that a stored value names; raises AttributeError or ImportError when there is none."""
    head, _, former = module.rpartition(".")
    places = FORMER.get(former, ()) if head == _ENGINE else ()
    for place in places:
        found: Any = import_module(f"{_ENGINE}.{place}")
        try:
            for part in name.split("."):
                found = getattr(found, part)
        except AttributeError:
            continue
        return found
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
