"""How a contender talks with who measures it: a line of JSON for each round, in and out.

Run by the interpreter of the contender's own environment: standard library only, and beside the script, not in a
package.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

WAIT_SECONDS = 120.0


def serve(settings: dict[str, Any], rounds: dict[str, Callable[[int], dict[str, Any]]]) -> None:
    """Say what is set, then do what is asked until there is nothing more: ``KIND COUNT`` gives that round's figures."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a contender prints does not come between
    print(json.dumps(settings), file=out, flush=True)
    for line in sys.stdin:
        kind, count = line.split()
        print(json.dumps(rounds[kind](int(count))), file=out, flush=True)


def timed(count: int, work: Callable[[int], Any], stored: Callable[[], int]) -> dict[str, Any]:
    """How long ``work(count)`` took, how many records stood in the store then, and how long until all of them did."""
    begun = time.perf_counter()
    work(count)
    returned = time.perf_counter()
    return {"seconds": returned - begun, **settled(count, begun, stored)}


def settled(count: int, begun: float, stored: Callable[[], int]) -> dict[str, Any]:
    """Look at the store now, and until it holds all; ``stored_seconds`` is None when it never did."""
    at_return = found = stored()
    deadline = time.perf_counter() + WAIT_SECONDS
    while found < count and time.perf_counter() < deadline:
        time.sleep(0.05)
        found = stored()
    until = time.perf_counter() - begun if found >= count else None
    return {"stored_at_return": at_return, "stored": found, "stored_seconds": until}
