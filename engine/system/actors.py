"""Who asks: the words by which the audit log names people and what they asked through."""

from __future__ import annotations

import getpass
import os


def actor_name(via: str) -> str:
    """``user@host via …``, as the audit log names people."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{os.uname().nodename} via {via}"
