"""Faults of processes, mixed at random in one box: who may judge, signal, count and trust whom holds in all of them.

Namespaces that are made and killed, copies, other users, bursts, files that hang, code that does not listen, shutdowns,
forged rows and numbers used again, observers by the dozen. A failure prints its seed: ``FLOWDECK_CRASH_SEED`` makes the
same choices again, ``FLOWDECK_CRASH_FIRST`` begins at a later round, and ``FLOWDECK_CRASH_KINDS`` names the kinds.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from .box import IN_CONTAINER, Box
from .conftest import make_seed, rounds
from .kinds import ANOTHER_USER, KINDS, bursts_with_kills

KINDS_IN_CI: Final = (
    "containers_replaced", "daemons_moved", "deaths_observed", "copies_asked", "other_users_look", "forged_rows",
    "imports_that_hang", "daemons_at_once", "requests_overtaken", "children_that_escape", "deaf_runs_cancelled",
    "root_settles_anothers", "forged_claims",
    "told_to_end", "stopped_holders",
)  # fmt: skip
"""What every change is tried with, a few of them each time; the sweep has all."""
IS_SWEEP: Final = rounds() > 20
SHARES: Final = 6 if IS_SWEEP else 1
"""The sweep's rounds wait most of the time: with ``-n`` so many go side by side, each in a box of its own."""
pytestmark = [pytest.mark.crash, pytest.mark.timeout(120 + 60 * rounds()), *([] if IS_SWEEP else [pytest.mark.alone])]


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    for words in (IN_CONTAINER, ANOTHER_USER):
        if shutil.which(words[0]) is None or subprocess.run([*words, "true"], capture_output=True).returncode != 0:
            if os.environ.get("CI") == "true":
                pytest.fail(f"CI needs {words[0]} and the right to use it")
            pytest.skip(f"{words[0]} cannot be used here")


@pytest.mark.parametrize("share", range(SHARES))
def test_the_invariants_hold_whatever_becomes_of_processes(share: int) -> None:
    """After each round I1–I10 hold, and each committed body has run once."""
    seed = make_seed()
    named = os.environ.get("FLOWDECK_CRASH_KINDS", "")
    among = named.split(",") if named else list(KINDS if IS_SWEEP else KINDS_IN_CI)
    made: Counter[str] = Counter()
    first = int(os.environ.get("FLOWDECK_CRASH_FIRST", "0"))
    for number in range(first, rounds() if IS_SWEEP or named else 2):
        if number % SHARES != share:
            continue
        dice = random.Random(f"{seed}/{number}")
        chosen = dice.sample(among, k=min(len(among), dice.randrange(2, 5) if IS_SWEEP else 3))
        print(f"FLOWDECK_CRASH_SEED={seed} FLOWDECK_CRASH_FIRST={number}: {', '.join(chosen)}", flush=True)
        one_round(dice, chosen)
        made.update(chosen)
    print(dict(made))


def test_thousands_are_due_at_once_while_hosts_and_daemons_are_killed() -> None:
    """The sweep: ten thousand."""
    seed = make_seed()
    print(f"FLOWDECK_CRASH_SEED={seed}")
    dice = random.Random(seed)
    with a_box() as box:
        bursts_with_kills(box, dice, 10_000 if IS_SWEEP else 150)
        box.finish(dice)


@contextmanager
def a_box() -> Iterator[Box]:
    # Where others may look: the folders of pytest are closed to them.
    root = Path(tempfile.mkdtemp(prefix="flowdeck-crash-"))
    root.chmod(0o755)
    box = Box(root)
    try:
        yield box
    finally:
        box.close()


def one_round(dice: random.Random, chosen: list[str]) -> None:
    with a_box() as box:
        watching = box.observers(dice, 1, "again") if dice.random() < 0.5 else []
        for name in chosen:
            KINDS[name](box, dice)
        box.release(watching)
        box.finish(dice)
