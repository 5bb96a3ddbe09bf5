"""What systemd is told of a daemon that it started: ready, stopping, and that the loop still turns. Nothing elsewhere.

One datagram each to the socket that ``NOTIFY_SOCKET`` names (``man sd_notify``); no library is needed for that.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable


def notify(text: str, say: Callable[[str], None]) -> None:
    """Tell systemd, when it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            say(f"systemd cannot be told {text!r} at {address}: {error.strerror}")


def watchdog_seconds() -> float | None:
    """How often it wants ``WATCHDOG=1``: half of what it waits for; None when it does not."""
    interval_us = int(os.environ.get("WATCHDOG_USEC", "0") or 0)
    return interval_us / 2e6 if interval_us > 0 and os.environ.get("NOTIFY_SOCKET") else None
