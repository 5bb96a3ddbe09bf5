"""Parts of a run by name on the command line: cancel, retry from here with its plan, forks, states set by hand."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable

from .conftest import FLOWDECK, Cli

STEPS = '''
import os
import time
from flowdeck import Cancelled, flow, task

@task
def extract(n):
    return [{"n": k} for k in range(n)]

@task
def clean(row):
    if os.path.exists("slow"):
        try:
            for _ in range(600):
                time.sleep(0.05)
        finally:
            print("cleaned up", flush=True)
    return row

@task
def load(rows):
    if os.path.exists("fail"):
        raise ValueError("no disk")
    return {"loaded": len(rows)}

@flow
def steps(n: int = 3, city: str = "Oslo"):
    rows = extract(n)
    try:
        cleaned = clean.map(rows).result()
    except Cancelled:
        cleaned = []
    return load(cleaned)
'''


def shown(cli: Cli, ref: str = "1") -> dict[str, list[str]]:
    """State names of the run's tasks, by key."""
    found: dict[str, list[str]] = {}
    done = cli("show", "--json", ref)
    for task in json.loads(done.stdout)["tasks"] if done.returncode == 0 else ():
        found.setdefault(task["key"], []).append(task["state_name"])
    return found


def write(cli: Cli, name: str, text: str = "") -> None:
    (cli.flows.parent / name).write_text(text)


def test_a_group_and_a_task_are_cancelled_by_name(cli: Cli, until: Callable[..., None]) -> None:
    """The run goes on; what has ended is refused with 4, what is unknown with 3."""
    write(cli, "steps.py", STEPS)
    write(cli, "slow")
    process = cli.start("run", "steps.py", "-p", "n=4")
    until(lambda: shown(cli, "@last").get("clean", []).count("Running") == 4, "the map to run")
    assert "cancelling clean[2] (1/" in cli("cancel", "1/clean[2]").stdout
    until(lambda: shown(cli).get("clean", []).count("Cancelled") >= 1, "one of them to end")
    assert cli("cancel", "1/99").returncode == 3
    assert cli("cancel", "1/nothing").returncode == 3
    refused = cli("cancel", "1/extract")
    assert (refused.returncode, "Completed: it cannot be asked to cancel" in refused.stderr) == (4, True)
    assert "calls" in cli("cancel", "1/clean").stdout
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert shown(cli) == {"extract": ["Completed"], "clean": ["Cancelled"] * 4, "load": ["Completed"]}
    assert cli("cancel", "1/clean[*]").returncode == 4
    assert cli("pause", "1/2").returncode == 4


def test_retry_from_here_shows_its_set_first(cli: Cli) -> None:
    """``--plan`` asks nothing; ``--here`` runs it; finished work beside it is kept."""
    write(cli, "steps.py", STEPS)
    assert cli("run", "steps.py").returncode == 0
    plan = cli("retry", "--plan", "1/clean[1]")
    assert plan.returncode == 0
    assert plan.stdout.splitlines() == [
        "retry clean[1] (1/3)", "  again  clean", "  again  load", "  kept   3 finished calls"]
    as_json = json.loads(cli("retry", "--plan", "--json", "1/load").stdout)
    assert [(part["key"], part["calls"], part["completed"]) for part in as_json[0]["tasks"]] == [("load", 1, 1)]
    assert json.loads(cli("ls", "--json").stdout)[0]["attempt"] == 1
    done = cli("retry", "--here", "1/clean")
    assert done.returncode == 0, done.stderr
    assert "4 calls run again, 1 keep their results" in done.stdout
    assert cli("retry", "1/99").returncode == 3
    assert cli("retry", "--all", "--failed", "1").returncode == 2
    assert cli("retry", "--failed", "1/load").returncode == 4


def test_a_terminal_is_asked_before_finished_work_is_done_anew(cli: Cli) -> None:
    """Default no; ``--yes`` does not ask; from failures alone nobody is asked."""
    write(cli, "steps.py", STEPS)
    assert cli("run", "steps.py").returncode == 0
    for answer, attempt in ((b"\n", 1), (b"y\n", 2)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([*FLOWDECK, "retry", "1/load"], stdin=theirs, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, cwd=cli.flows.parent, env=cli.environment, text=True)
        os.write(ours, answer)
        out, err = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert "Run these again? [y/N]" in err
        assert ("left as it is" in out) == (attempt == 1)
        assert json.loads(cli("ls", "--json").stdout)[0]["attempt"] == attempt


def test_other_parameters_make_a_new_run(cli: Cli) -> None:
    """Forked at the step, said in ``show``; the old run stays."""
    write(cli, "steps.py", STEPS)
    write(cli, "fail")
    assert cli("run", "steps.py").returncode == 1
    (cli.flows.parent / "fail").unlink()
    done = cli("retry", "--here", "1/load", "-p", "city=12")
    assert done.returncode == 0, done.stderr
    assert "#2: queued: forked from #1, 4 finished calls are kept" in done.stdout
    run = json.loads(cli("show", "--json", "2").stdout)
    assert (run["parameters"], run["state_name"]) == ({"n": 3, "city": "12"}, "Completed")
    assert "forked from #1 at load (1/5): 4 finished calls are kept" in cli("show", "2").stdout
    assert json.loads(cli("show", "--json", "1").stdout)["state_name"] == "Failed"


def test_a_state_is_set_by_hand(cli: Cli) -> None:
    """Mark as completed with a result; the retry goes on from there."""
    write(cli, "steps.py", STEPS)
    write(cli, "fail")
    assert cli("run", "steps.py").returncode == 1
    assert "flowdeck set-state 1/5 completed" in cli("show", "1/load").stderr
    assert cli("set-state", "1/load", "completed", "--result", "{no").returncode == 2
    assert cli("set-state", "1", "completed").returncode == 2
    done = cli("set-state", "1/load", "completed", "--result", '{"loaded": 3}')
    assert "is Completed: a retry does not run it and it gives {'loaded': 3}" in done.stdout
    again = cli("retry", "--here", "1")
    assert again.returncode == 0, again.stderr
    assert json.loads(cli("show", "--json", "1").stdout)["state_name"] == "Completed"
