"""The README's own example does what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from flowdeck.store.reader import Reader

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readmes_flow_runs(tmp_path: Path) -> None:
    """The flow on the page runs as a script and by ``flowdeck run`` with another parameter, and both are recorded."""
    (source,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
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
