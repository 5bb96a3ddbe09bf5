"""Submitting a run and staying until it ends: what is printed, and the exit code that a script acts on."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Cli

MORE = '''

@flow
def waits() -> int:
    from flowdeck import pause_flow_run
    return int(pause_flow_run(wait_for_input=int))


@flow
def dies() -> None:
    import os, signal
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
'''
Until = Callable[..., None]


@pytest.fixture
def served(cli: Cli, until: Until) -> Cli:
    """Commands on a store with a daemon that has the flows."""
    cli.flows.write_text(cli.flows.read_text() + MORE)
    cli.start("daemon", str(cli.flows))
    until(lambda: len(json.loads(cli("flows", "--json").stdout)) == 5, "the daemon's flows")
    return cli


def test_submit_and_wait_ends_with_the_runs_exit_code(served: Cli) -> None:
    """The number on standard output, at once; how it ended on standard error."""
    done = served("submit", "etl", "-p", "n=1", "--wait")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "#1 etl Completed after" in done.stderr
    done = served("submit", "bad", "--wait")
    assert (done.returncode, done.stdout) == (1, "2\n")
    assert "#2 bad Failed" in done.stderr
    assert "`flowdeck retry 2`" in done.stderr
    shape = json.loads((done := served("submit", "bad", "--wait", "--json")).stdout)
    assert (done.returncode, shape["state_name"], shape["id"]) == (1, "Failed", 3)


def test_submit_and_follow_prints_what_the_run_writes(served: Cli) -> None:
    """Its lines are all there is on standard output, also as JSON; the exit code is the run's."""
    done = served("submit", "bad", "-f")
    assert done.returncode == 1
    assert "extracting 2" in done.stdout
    assert "about to fail" in done.stdout
    assert done.stderr.startswith("#1 bad\n")
    assert any(line.startswith("✗ #1 bad Failed") for line in done.stderr.splitlines()), done.stderr
    done = served("submit", "etl", "-f", "--json")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "extracting 3" in [line["message"] for line in lines]


def test_followed_logs_end_with_the_runs_exit_code(served: Cli, until: Until) -> None:
    """0 completed, 1 failed or crashed, 130 cancelled; whether it ended before or while it was followed."""
    for name, code in (("etl", 0), ("bad", 1)):
        run_id = served("submit", name).stdout.strip()
        assert served("logs", "-f", run_id).returncode == code
        assert served("logs", "-f", run_id, "--json").returncode == code
        assert served("logs", run_id).returncode == 0
    run_id = served("submit", "slow").stdout.strip()
    follower = served.start("logs", "-f", run_id)
    until(lambda: "sleeping" in served("logs", run_id).stdout, "the run to sleep")
    served("cancel", run_id)
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 130, err
    assert "Cancelled" in err


def test_a_run_that_is_resumed_has_not_ended(served: Cli) -> None:
    """Each crash that is followed by a resume is only on the way; the last one is the end."""
    done = served("submit", "dies", "-f", timeout=120)
    assert done.returncode == 1
    assert done.stdout.count("about to die") == 4
    assert "Crashed" in done.stderr


def test_who_waits_is_told_that_the_run_waits_for_a_person(served: Cli, until: Until) -> None:
    """Once, with the way to answer; answered, it goes on to its end."""
    waiter = served.start("submit", "waits", "--wait")
    until(lambda: "AwaitingInput" in served("ls").stdout, "the question")
    assert served("resume", "1", "-i", "value=7").returncode == 0
    _, err = waiter.communicate(timeout=60)
    assert waiter.returncode == 0
    assert err.count("#1 AwaitingInput") == 1
    assert "`flowdeck show 1` says how to go on" in err


def test_interrupted_the_run_goes_on(served: Cli, until: Until) -> None:
    """Ctrl-C ends the waiting only, and says how to end or follow the run."""
    waiter = served.start("submit", "slow", "--wait")
    until(lambda: "Running" in served("ls").stdout, "the run")
    waiter.send_signal(signal.SIGINT)
    _, err = waiter.communicate(timeout=60)
    assert waiter.returncode == 130
    assert "run #1 goes on; `flowdeck cancel 1` ends it" in err
    assert "Running" in served("ls").stdout
    served("cancel", "1")


def test_without_a_daemon_a_dead_run_ends_what_follows_it(cli: Cli, until: Until) -> None:
    """Its process was killed and nobody looks after it: whoever follows settles it, and ends with 1."""
    run = cli.start("run", f"{cli.flows}:slow")
    until(lambda: cli.store.exists() and "sleeping" in cli("logs", "@last").stdout, "the run to sleep")
    follower = cli.start("logs", "-f", "1")
    run.kill()
    run.communicate()
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 1, err
    assert "Crashed" in err


def test_a_store_that_is_removed_ends_what_follows_it(cli: Cli, until: Until, tmp_path: Path) -> None:
    """Nobody writes there any more: exit code 5, with the reason."""
    run = cli.start("run", f"{cli.flows}:slow")
    until(lambda: cli.store.exists() and "sleeping" in cli("logs", "@last").stdout, "the run to sleep")
    followers = [cli.start("logs", "-f", "1"), cli.start("events", "-f")]
    for follower in followers:
        assert follower.stdout is not None
        follower.stdout.readline()
    shutil.move(cli.store, tmp_path / "away")
    for follower in followers:
        _, err = follower.communicate(timeout=60)
        assert follower.returncode == 5, err
        assert "no store at" in err
    run.kill()
    run.communicate()
