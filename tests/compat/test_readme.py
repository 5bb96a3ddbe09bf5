"""The README's own example does what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader

README = Path(__file__).resolve().parents[2] / "README.md"


def _example(number: int) -> str:
    found: str = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[number]
    return found


def test_the_readmes_flow_runs(tmp_path: Path) -> None:
    """The flow on the page runs as a script and by ``flowdeck run`` with another parameter, and both are recorded."""
    source = _example(0)
    (tmp_path / "hello.py").write_text(source)
    environment = {**os.environ, "FLOWDECK_STORE": str(tmp_path / "store")}
    for command in (["hello.py"], ["-m", "flowdeck", "run", "hello.py", "-p", "count=20"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    with Reader(tmp_path / "store") as reader:
        runs = reader.runs()
        said = [line.message for run in runs for line in reader.logs(run.id, 0, 100)]
    assert [(run.flow_name, run.state_name) for run in runs] == [("squares", "Completed")] * 2
    assert said == ["the sum is 2470", "the sum is 285"]


def test_what_the_readme_says_a_flow_can_do(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    """The longer example runs up to its question, and to its end once that is answered from the command line."""
    (tmp_path / "night.py").write_text(_example(1) + '\n\nif __name__ == "__main__":\n    nightly("monday")\n')
    store = tmp_path / "store"
    environment = {**os.environ, "FLOWDECK_STORE": str(store)}
    open_store(store)
    process = subprocess.Popen([sys.executable, "night.py"], cwd=tmp_path, env=environment)
    try:
        with Reader(store) as reader:
            eventually(lambda: [run for run in reader.runs() if run.state_name == "AwaitingInput"], 60)
            answer = [sys.executable, "-m", "flowdeck", "resume", "@last", "-i", "value=false"]
            assert subprocess.run(answer, env=environment, timeout=60, check=False).returncode == 0
            assert process.wait(60) == 0
            (run,) = reader.runs()
            assert run.state_name == "Completed"
            assert {row.name for row in reader.tasks(run.id)} >= {"sh", "extract", "crunch[0]", "rate", "load[0]"}
            assert "loaded 3.24" in [line.message for line in reader.logs(run.id, 0, 1000)]
    finally:
        process.kill()
        process.wait()
