"""Who asks: the words by which the audit log names people and what they asked through.

The user is whom the kernel says, whatever the environment claims. Beside him stands through whom he came, where that
is known and another: the caller that sudo names, and the user who logged in (the kernel keeps that one, too).
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

_NO_LOGIN: Final = 2**32 - 1


def actor_name(via: str) -> str:
    """``user@host via …``, as the audit log names people; ``root@host (sudo by ada, login ada) via …``."""
    return f"{_user_name(os.geteuid())}@{os.uname().nodename}{_came_through()} via {via}"


def _came_through() -> str:
    own = os.geteuid()
    words = [
        f"{word} {_user_name(uid)}"
        for word, uid in (("sudo by", _sudo_caller()), ("login", _login_user()))
        if uid is not None and uid != own
    ]
    return f" ({', '.join(words)})" if words else ""


def _sudo_caller() -> int | None:
    """Whom sudo says it worked for; for anybody but root a claim of the environment, which is why his name is first."""
    said = os.environ.get("SUDO_UID", "")
    return int(said) if said.isdecimal() and len(said) < 11 else None


def _login_user() -> int | None:
    """Who logged in, as the kernel's audit keeps it; None where nobody did."""
    try:
        with open("/proc/self/loginuid", encoding="ascii") as file:
            uid = int(file.read())
    except (OSError, ValueError):
        return None  # no Linux, or a kernel without audit
    return None if uid == _NO_LOGIN else uid


@lru_cache(maxsize=16)
def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
