"""Running flows from the command line, and asking runs to pause, end and go on: real flows, real processes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli

HELD = """
import os
import time
from flowdeck import flow


@flow
def held() -> None:
    print("held", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.02)
    print("let go", flush=True)
"""


def runs(cli: Cli) -> list[dict[str, Any]]:
    done = cli("ls", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def state(cli: Cli, ref: str = "@last") -> str:
    done = cli("show", ref, "--json")
    return str(json.loads(done.stdout)["state_name"]) if done.returncode == 0 else ""


def test_a_run_prints_what_the_flow_prints_and_says_how_it_ended(cli: Cli) -> None:
    """The flow's output on standard output, talk on standard error, exit code 0."""
    done = cli("run", "flows.py:etl", "-p", "n=2", "-p", "day=2026-02-03", "-p", "city=42")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["0", "1", "doubling", "doubling"]
    assert "#1 etl Completed" in done.stderr
    parameters = json.loads(cli("show", "1", "--json").stdout)["parameters"]
    assert parameters == {"n": 2, "day": "2026-02-03", "city": "42"}


def test_a_failing_run_is_exit_code_1_with_its_cause(cli: Cli) -> None:
    """And says how to have it again; ``retry --here`` keeps what had completed."""
    done = cli("run", "flows.py:bad")
    assert done.returncode == 1
    assert "ValueError: no rows" in done.stderr
    assert "retry --here 1" in done.stderr
    again = cli("retry", "--here", "1")
    assert again.returncode == 1, again.stderr
    run = json.loads(cli("show", "1", "--json").stdout)
    assert run["attempt"] == 2
    extracted = [event for event in json.loads(cli("events", "--json", "--run", "1").stdout) if event["task"] == 1]
    assert len([event for event in extracted if event["to"] == "COMPLETED"]) == 1


def test_run_as_json_is_the_run_alone(cli: Cli) -> None:
    """Standard output holds one object; what the flow printed is in its log."""
    done = cli("run", "flows.py:etl", "--json")
    assert json.loads(done.stdout)["state"] == "COMPLETED"
    assert "doubling 2" in cli("logs", "@last").stdout


@pytest.mark.parametrize(("words", "said"), [
    (("flows.py:etl", "-p", "n=many"), ("'n'", "int", "-p NAME=VALUE")),
    (("flows.py:etl", "-p", "citty=Oslo"), ("'citty'", "'city'")),
    (("flows.py:etl", "-p", "n"), ("-p n", "-p NAME=VALUE")),
    (("flows.py",), ("etl", "bad", "slow", "say which one")),
    (("flows.py:elt",), ("'elt'", "etl")),
    (("flow.py",), ("flow.py", "'flows.py'")),
    (("broken.py",), ("broken.py", "line 3")),
    (("lacking.py",), ("lacking.py", "no_such_module_here")),
    (("empty.py",), ("empty.py", "no flow")),
])  # fmt: skip
def test_mistakes_before_the_run_are_usage_and_record_nothing(
    cli: Cli, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    """Exit code 2, one line with the place and the remedy, no run in the store."""
    (cli.flows.parent / "broken.py").write_text("from flowdeck import flow\n\ndef x(:\n", encoding="utf-8")
    (cli.flows.parent / "lacking.py").write_text("import no_such_module_here\n", encoding="utf-8")
    (cli.flows.parent / "empty.py").write_text("from flowdeck import flow\n", encoding="utf-8")
    done = cli("run", *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("flowdeck: ")
    assert done.stderr.count("\n") == 1
    for word in said:
        assert word in done.stderr
    assert runs(cli) == []


def test_ctrl_c_cancels_the_run(cli: Cli, until: Callable[..., None]) -> None:
    """Exit code 130; the run is Cancelled and says by what."""
    process = cli.start("run", "flows.py:slow")
    until(lambda: "sleeping" in cli("logs", "@last").stdout, "the flow to run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert state(cli) == "Cancelled"


def test_a_killed_run_is_never_shown_as_running(cli: Cli, until: Callable[..., None]) -> None:
    """Without a daemon the first listing after the kill records the death; a follower of its log ends by itself."""
    process = cli.start("run", "flows.py:slow")
    until(lambda: "sleeping" in cli("logs", "@last").stdout, "the flow to run")
    follower = cli.start("logs", "-f", "@last")
    process.kill()
    process.wait(10)
    run = runs(cli)[0]
    assert (run["state"], run["state_name"]) == ("CRASHED", "Crashed")
    assert run["cause"]
    out, _ = follower.communicate(timeout=60)
    assert follower.returncode == 1
    assert "sleeping" in out


def test_followed_logs_show_lines_as_they_come_and_end_with_the_run(cli: Cli, until: Callable[..., None]) -> None:
    """``logs -f`` is there before the end and complete after it."""
    (cli.flows.parent / "held.py").write_text(HELD)
    cli.start("run", "held.py:held")
    until(lambda: bool(runs(cli)), "the run to begin")
    follower = cli.start("logs", "-f", "--json", "@last")
    assert follower.stdout is not None
    first = json.loads(follower.stdout.readline())
    assert first["message"] == "held"
    assert state(cli) == "Running"
    (cli.flows.parent / "go").touch()
    assert "let go" in [json.loads(line)["message"] for line in follower.stdout]
    assert follower.wait(60) == 0
    assert state(cli) == "Completed"


def test_followed_events_come_as_they_happen(cli: Cli) -> None:
    """One JSON object a line; Ctrl-C ends it with 130."""
    assert cli("run", "flows.py:etl").returncode == 0
    follower = cli.start("events", "-f", "--json")
    assert follower.stdout is not None
    seen = [json.loads(follower.stdout.readline())]
    assert cli("run", "flows.py:etl").returncode == 0
    while not (seen[-1]["run"] == 2 and seen[-1]["task"] is None and seen[-1]["to"] == "COMPLETED"):
        seen.append(json.loads(follower.stdout.readline()))
    assert [event["id"] for event in seen] == list(range(1, len(seen) + 1))
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == 130


def test_a_script_is_controlled_from_another_terminal(cli: Cli, until: Callable[..., None]) -> None:
    """Freeze, thaw and cancel of a run somebody started by hand, without any daemon."""
    process = cli.start("run", "flows.py:slow")
    until(lambda: "sleeping" in cli("logs", "@last").stdout, "the flow to run")
    assert "frozen" in cli("freeze", "1").stdout
    assert state(cli) == "Frozen"
    assert cli("thaw", "#1").returncode == 0
    assert state(cli) == "Running"
    done = cli("cancel", "1", "77")
    assert done.returncode == 3
    assert done.stdout.startswith("#1: ")
    assert "no run '77'" in done.stderr
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert state(cli) == "Cancelled"
    answer = json.loads(cli("retry", "--json", "1").stdout)
    assert (answer[0]["run"], answer[0]["ok"], answer[0]["state"]) == (1, True, "SCHEDULED")
    assert "no daemon is running" in cli("cancel", "1").stderr + cli("retry", "1").stderr


def test_the_daemon_takes_what_is_submitted(cli: Cli, until: Callable[..., None]) -> None:
    """``submit`` prints the run's number and nothing else; flows are listed; ``daemon --stop`` ends it."""
    daemon = cli.start("daemon", "flows.py")
    until(lambda: len(json.loads(cli("flows", "--json").stdout)) == 3, "the daemon to read the flows")
    done = cli("submit", "etl", "-p", "n=1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    until(lambda: state(cli, "1") == "Completed", "the submitted run")
    assert cli("submit", "etl", "-p", "m=1").returncode == 2
    assert cli("submit", "etl", "-p", "n=many").returncode == 2
    assert cli("submit", "etx").returncode == 3
    assert "another" in (second := cli("daemon", "flows.py")).stderr or str(daemon.pid) in second.stderr
    assert second.returncode != 0
    assert "ended" in cli("daemon", "--stop").stdout
    assert daemon.wait(60) == 0
    assert cli("daemon", "--stop").returncode == 3


def test_up_starts_a_daemon_that_outlives_the_console(
    cli: Cli, in_terminal: Callable[..., tuple[int, bytes]], until: Callable[..., None]
) -> None:
    """In a session of its own, its words in daemon.log; a second ``up`` finds it."""
    in_terminal(cli, "up", "flows.py", killed_at=b"\x1b[?1049h")  # the console's screen
    try:
        until(lambda: len(json.loads(cli("flows", "--json").stdout)) == 3, "the daemon to read the flows")
        log = cli.store / "daemon.log"
        until(lambda: "ready" in log.read_text(), "the daemon to be ready")
        assert log.stat().st_mode & 0o777 == 0o600
        pid = int(cli("daemon", "--stop").stdout.split()[1])
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"  # nobody of ours waits for it
    finally:
        cli("daemon", "--stop")


def test_a_headless_demo_sums_up_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    """A row for each example against what is expected of it; its store and its daemon are gone afterwards."""
    folder = tmp_path / "demo"
    folder.mkdir()
    begun = time.monotonic()
    done = cli("demo", "--headless", "--seconds", "3", "--json", timeout=60, TMPDIR=str(folder))
    assert time.monotonic() - begun < 40
    assert done.returncode in (0, 1), done.stderr  # three seconds are short for the tour
    flows = {row["flow"]: row for row in json.loads(done.stdout)}
    assert flows["ETL Workflow"]["as_expected"] is True, done.stderr
    assert (done.returncode == 0) == all(row["as_expected"] for row in flows.values())
    assert list(folder.iterdir()) == []
