"""``suspend``, ``resume -i``, ``send`` and what ``show`` says is asked, in real processes."""

from __future__ import annotations

import json

FLOW = '''
import datetime
from typing import Literal
from pydantic import BaseModel, Field
from flowdeck import flow, receive_input, suspend_flow_run, task


class Approval(BaseModel):
    """Approve the deploy \\x1b[31mnow\\x1b[0m?"""

    approve: bool
    count: int = Field(3, description="how many at once")
    stage: Literal["test", "live"] = "test"
    day: datetime.date | None = None


@task
def step(name: str) -> str:
    return name


@flow
def release() -> str:
    step("built")
    answer = suspend_flow_run(wait_for_input=Approval)
    step("shipped")
    return f"{answer.approve} {answer.count} {answer.stage} {answer.day}"


@flow
def held() -> str:
    suspend_flow_run()
    return next(receive_input(int, timeout=20)) + 1
'''


def test_a_run_is_answered_on_the_command_line(cli) -> None:
    """show says what is asked and the command that answers; wrong words are refused; right ones go on here."""
    cli.flows.write_text(FLOW, encoding="utf-8")
    begun = cli("run", f"{cli.flows}:release")
    assert begun.returncode == 75
    assert "awaiting input" in begun.stderr
    assert "flowdeck show 1" in begun.stderr

    shown = cli("show", "1").stdout
    assert "awaiting input: Approve the deploy" in shown
    assert "\x1b[31m" not in shown
    assert "flowdeck resume 1 -i approve=true" in shown
    assert "count (a whole number, default 3): how many at once" in shown
    assert "stage (test or live, default \"test\")" in shown
    asked = json.loads(cli("show", "1", "--json").stdout)["asks"]
    assert asked[0]["schema"]["required"] == ["approve"]

    for words, said in (
        ((), "approve: is needed"), (("-i", "approve=perhaps"), "'perhaps' is not true or false"),
        (("-i", "aprove=true"), "there is no such field"), (("-i", "approve"), "NAME=VALUE"),
        (("--input", "{"), "is not JSON"), (("--input", '{"approve": 1}'), "1 is not true or false"),
        (("-i", "approve=true", "-i", "count=many"), "is not a whole number"),
    ):
        refused = cli("resume", "1", *words)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    assert "AwaitingInput" in cli("ls", "--json").stdout

    done = cli("resume", "1", "-i", "approve=yes", "-i", "stage=live", "-i", "day=2026-01-31", "--here")
    assert done.returncode == 0, done.stderr
    run = json.loads(cli("show", "1", "--json").stdout)
    assert run["state"] == "COMPLETED"
    assert [task["attempt"] for task in run["tasks"]] == [1, 1]
    assert run["asks"] == []


def test_without_a_daemon_a_resume_says_who_goes_on(cli) -> None:
    """The answer is durable at once; the way to go on is named."""
    cli.flows.write_text(FLOW, encoding="utf-8")
    assert cli("run", f"{cli.flows}:release").returncode == 75
    answered = cli("resume", "1", "--input", '{"approve": false}')
    assert answered.returncode == 0
    assert "no daemon is running" in answered.stderr
    assert cli("resume", "--here", "1").returncode == 0
    assert cli("resume", "1", "-i", "approve=true").returncode == 4


def test_messages_are_sent(cli) -> None:
    """Also to a run without a process; input for a run that asks for none is refused."""
    cli.flows.write_text(FLOW, encoding="utf-8")
    assert cli("run", f"{cli.flows}:held").returncode == 75
    assert "asks for no input" in cli("resume", "1", "-i", "x=1").stderr
    assert cli("send", "1", "nonsense").returncode == 2
    assert cli("send", "7", "1").returncode == 3
    assert cli("send", "1", "41").stdout == "#1: sent, to be received as int\n"
    assert cli("suspend", "1").returncode == 4
    assert cli("resume", "1", "--here").returncode == 0
    assert json.loads(cli("ls", "--json").stdout)[0]["state"] == "COMPLETED"
    assert cli("send", "1", "41").returncode == 4
