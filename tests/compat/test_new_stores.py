"""What this version stores names only what later versions will still have: the public modules."""

from __future__ import annotations

import os
import pickletools
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from .stores.unpacking import BLOBS, COMPRESSED, STORES

PICKLES = (b"\x80\x04", b"\x80\x05")
"""How they begin, by protocol."""
OURS = ("flowdeck.engine", "flowdeck.store")


MORE = """
from flowdeck import flow, task, transaction

seen = []

@task(on_completion=[lambda task, run, state: seen.append([run, state])])
def watched():
    return 1

@task
def kept():
    with transaction(key="kept") as block:
        block.stage(1)
    return [*seen, block.read(), block.state, block.commit_mode]

@flow
def more():
    watched()
    return kept()
"""
"""What code can only have while a run goes on."""


def test_results_name_no_module_below_the_public_ones(tmp_path: Path) -> None:
    """Of everything public that a result can be or hold: in rows and files, of flow files and of a script's values."""
    shutil.copytree(STORES / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mended").touch()
    store = tmp_path / "store"
    (tmp_path / "flows" / "more.py").write_text(MORE)
    run = ["-P", "-m", "flowdeck", "run"]
    for words in ([*run, "flows/kinds.py:kinds"], [*run, "flows/cached.py"], [*run, "flows/more.py"],
                  ["flows/script.py"]):  # fmt: skip
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env={**os.environ, "FLOWDECK_STORE": str(store)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    named: dict[str, set[str]] = {}
    pickles = 0
    for place, data in blobs(store):
        pickles += data.startswith(PICKLES)
        for text in texts(data):
            if text.startswith("flowdeck"):
                named.setdefault(text, set()).add(place)
        # What a serializer of the user's own made stands in it as bytes, here from back to front.
        assert not any(name.encode()[::-1] in data for name in OURS), place
    assert pickles > 60
    assert {"flowdeck", "flowdeck.state", "flowdeck.signals", "flowdeck.schedules"} <= named.keys()
    assert not {name: places for name, places in named.items() if name.startswith(OURS)}


def blobs(store: Path) -> Iterator[tuple[str, bytes]]:
    """Everything stored as bytes, not compressed any more, and where it stands."""
    found: list[tuple[str, bytes]] = []
    with closing(sqlite3.connect(store / "state.db")) as connection:
        for table, column, _ in BLOBS:
            rows = connection.execute(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
            found += [(f"{table} {number}", data) for number, (data,) in enumerate(rows)]
    for folder in ("results", "cache"):
        files = sorted(path for path in (store / folder).rglob("*") if path.is_file())
        assert files
        found += [(str(path.relative_to(store)), path.read_bytes()) for path in files]
    for place, data in found:
        yield place, zlib.decompress(data[len(COMPRESSED):]) if data.startswith(COMPRESSED) else data


def texts(data: bytes) -> Iterator[str]:
    """All texts in a pickle, and in those it holds: names of modules are among them."""
    if not (data.startswith(PICKLES) and data.endswith(b".")):
        return
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "GLOBAL":
            yield str(argument).partition(" ")[0]
        elif isinstance(argument, str):
            yield argument
        elif isinstance(argument, bytes):
            yield from texts(argument)
