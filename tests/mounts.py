"""File systems for one test, which need root: a test fails without them where CI runs it, and is skipped elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def mounted(place: Path, *commands: str) -> Iterator[Path]:
    """What a fixture yields from: the folder, made, once all of these have mounted something there."""
    place.mkdir(exist_ok=True)
    for command in commands:
        made = subprocess.run(command.split(" "), capture_output=True, text=True, check=False)
        if made.returncode != 0:
            if os.environ.get("CI") == "true":
                pytest.fail(f"cannot {command}: {made.stderr.strip()}")
            pytest.skip(f"cannot {command}: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
