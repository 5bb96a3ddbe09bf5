"""Where commands work and what they mean: the store handed down, the folder gone back to, requests that fail, names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from flowdeck.store.opening import open_store

from .conftest import Cli

READS = '''
import os
from flowdeck import flow, task

LOADED_IN = os.getcwd()

@task
def first():
    return open("data.txt").read()

@flow
def reads():
    first()
    if not os.path.exists("mended"):
        raise ValueError("not yet")
    return [LOADED_IN, os.getcwd(), open("data.txt").read()]

if __name__ == "__main__":
    reads()
'''


def write(path: Path, text: str) -> Path:
    """A file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def run_of(cli: Cli, ref: str = "1") -> dict[str, Any]:
    """A run as JSON."""
    done = cli("show", "--json", ref)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def stand(cli: Cli, folder: Path) -> Cli:
    """The same store, commands given in another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Cli(cli.store, folder / "flows.py")


@pytest.mark.parametrize("begun", ["script", "run"])
def test_a_run_is_retried_in_the_folder_it_ran_in(cli: Cli, tmp_path: Path, begun: str) -> None:
    """However it was started: relative paths mean the same, also those its file reads as it is loaded."""
    place = tmp_path / "place"
    file = write(tmp_path / "elsewhere" / "reads.py", READS)
    write(place / "data.txt", "here")
    there = stand(cli, place)
    if begun == "script":
        done = subprocess.run([sys.executable, str(file)], env=cli.environment, cwd=place, check=False)
        assert done.returncode == 1
    else:
        assert there("run", str(file)).returncode == 1
    write(place / "mended", "")
    done = stand(cli, tmp_path / "far" / "away")("retry", "--here", "-y", "1")
    assert done.returncode == 0, done.stderr
    assert run_of(cli)["state_name"] == "Completed"


def test_a_daemon_goes_back_too_and_says_when_it_cannot(cli: Cli, tmp_path: Path, until: Any) -> None:
    """A run of a script that the daemon takes up runs where the script did; where that is gone its log says so."""
    place = tmp_path / "place"
    file = write(tmp_path / "flows" / "reads.py", READS)
    write(place / "data.txt", "here")
    assert stand(cli, place)("run", str(file)).returncode == 1
    daemons = stand(cli, tmp_path / "daemons")
    daemons.start("daemon", str(file.parent))
    try:
        write(place / "mended", "")
        assert cli("retry", "1").returncode == 0
        until(lambda: run_of(cli)["state_name"] == "Completed", "the retried run")
        shutil.rmtree(place)
        assert cli("retry", "--all", "-y", "1").returncode == 0
        until(lambda: run_of(cli)["state_name"] == "Failed", "the run without its folder")
    finally:
        daemons.stop()
    assert f"it ran in {place}, which cannot be gone back to" in cli("logs", "1").stdout


def test_a_fork_runs_where_its_original_did(cli: Cli, tmp_path: Path) -> None:
    """A retry with other parameters is a new run, in the same folder."""
    place = tmp_path / "place"
    file = write(tmp_path / "flows" / "forked.py", """
        import os
        from flowdeck import flow
        @flow
        def forked(n: int = 1):
            print("in", os.getcwd(), n)
            raise ValueError
    """)
    assert stand(cli, place)("run", str(file)).returncode == 1
    assert stand(cli, tmp_path / "far")("retry", "--here", "-y", "1", "-p", "n=2").returncode == 1
    assert f"in {place} 2" in cli("logs", "2").stdout


@pytest.mark.parametrize("harm", ["broken", "gone", "flow gone"])
def test_a_retry_that_cannot_load_the_file_changes_nothing(cli: Cli, tmp_path: Path, harm: str) -> None:
    """The run keeps its end, its cause and its tasks; the exit code and the text say what is wrong with the file."""
    file = write(tmp_path / "flows" / "reads.py", READS)
    write(tmp_path / "data.txt", "here")
    assert cli("run", str(file)).returncode == 1
    before = run_of(cli), cli("events", "--json").stdout
    if harm == "gone":
        file.unlink()
    else:
        file.write_text("raise RuntimeError('no more')" if harm == "broken" else "from flowdeck import flow")
    for words in (("retry", "--here", "-y", "1"), ("retry", "--here", "-y", "1", "-p", "x=1")):
        done = cli(*words)
        assert done.returncode == 2, done
        assert str(file) in done.stderr
        assert (run_of(cli), cli("events", "--json").stdout) == before


def test_a_resume_that_cannot_load_the_file_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    """The same for a suspended run: it stays suspended."""
    file = write(tmp_path / "flows" / "waits.py", """
        from flowdeck import flow, suspend_flow_run
        @flow
        def waits():
            suspend_flow_run()
    """)
    assert cli("run", str(file)).returncode == 75
    file.write_text("raise RuntimeError('no more')")
    assert cli("resume", "--here", "1").returncode == 2
    assert run_of(cli)["state_name"] == "Suspended"


LOOKS = """
    import os, subprocess, sys
    from flowdeck import Variable, flow, sh
    @flow
    def looks():
        os.chdir("/")
        Variable.set("asked", "in the run")
        print(sh([sys.executable, "-m", "flowdeck", "vars"]).stdout)
        sh([sys.executable, os.environ["OTHER"]])
"""
OTHER = """
    from flowdeck import flow
    @flow
    def other(): pass
    if __name__ == "__main__":
        other()
"""


@pytest.mark.parametrize("way", ["run", "daemon", "found"])
def test_what_a_run_starts_sees_the_runs_store(cli: Cli, tmp_path: Path, until: Any, way: str) -> None:
    """Named by --store, or found from where it was started: commands and flows below it use the same, wherever they
    stand."""
    project = tmp_path / "project"
    file = write(project / "looks.py", LOOKS)
    other = write(tmp_path / "other.py", OTHER)
    store = project / ".flowdeck"
    there = Cli(store, file)
    there.environment = {key: value for key, value in cli.environment.items() if key != "FLOWDECK_STORE"}
    there.environment |= {"OTHER": str(other), "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    named = ("--store", ".flowdeck") if way != "found" else ()
    try:
        if way == "found":
            open_store(store)
        if way == "daemon":
            there.start(*named, "daemon", str(file))
            until(lambda: there(*named, "submit", "looks").returncode == 0, "the flow to be known")
            until(lambda: [run["state"] for run in json.loads(there(*named, "ls", "--json").stdout)
                           if run["flow"] == "looks"] == ["COMPLETED"], "the run's end")
        else:
            done = there(*named, "run", "looks.py")
            assert done.returncode == 0, done.stdout + done.stderr
        listed = json.loads(there("--store", str(store), "ls", "--json").stdout)
        assert sorted(run["flow"] for run in listed) == ["looks", "other"]
        assert "asked" in there("--store", str(store), "logs", "@last").stdout + there(
            "--store", str(store), "logs", "1").stdout
    finally:
        there.stop()
    assert not (tmp_path / "data").exists()


NAMED = """
    import sys
    from flowdeck import flow, task
    @task
    def step(): pass
    @flow(flow_run_name="{name}")
    def named():
        step()
    if __name__ == "__main__":
        named()
"""


@pytest.mark.parametrize("name", ["1/1", "1", "#1", "1/step", "1/step-0", "@last", "@failed", "@last/1"])
def test_a_number_means_the_number_whatever_runs_call_themselves(cli: Cli, tmp_path: Path, name: str) -> None:
    """Run 2 has taken a name that reads like something of run 1: it is not what that means."""
    for number, own in ((1, "plain"), (2, name)):
        assert cli("run", str(write(tmp_path / f"named{number}.py", NAMED.format(name=own)))).returncode == 0
    if name.startswith("@"):
        assert cli("run", str(tmp_path / "named1.py")).returncode == 0  # run 3 is the last
    for command in ("show", "cancel", "logs", "retry --plan"):
        said = cli(*command.split(), name)
        assert "#2" not in said.stdout + said.stderr, said
    assert json.loads(cli("show", "--json", "2").stdout)["name"] == name


def test_a_name_that_could_be_a_task_of_another_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    """Told apart by the two numbers, which the refusal gives."""
    for own in ("plain", "plain/step", "plain/1"):
        assert cli("run", str(write(tmp_path / "named.py", NAMED.format(name=own)))).returncode == 0
    for ref, number in (("plain/step", 2), ("plain/1", 3)):
        for command in ("show", "cancel", "retry"):
            done = cli(command, ref)
            assert done.returncode == 2, (command, done)
            assert f"say {number} or 1/1" in done.stderr
    assert {run["state_name"] for run in json.loads(cli("ls", "--json").stdout)} == {"Completed"}


def test_names_cannot_look_like_columns(cli: Cli, tmp_path: Path) -> None:
    """Columns are parted by two blanks, and nobody's name has two of them, or anything that looks like them."""
    wide = "nice   Failed\\u2800\\u2800\\u3000\\u00a0 5s   \\u2003 1h ago"
    assert cli("run", str(write(tmp_path / "named.py", NAMED.format(name=wide)))).returncode == 0
    line = next(line for line in cli("ls").stdout.splitlines() if "nice" in line)
    columns = re.split(r" {2,}", line.strip())
    assert columns[:4] == ["#1", "named", "nice Failed 5s 1h ago", "✓ Completed"], line
