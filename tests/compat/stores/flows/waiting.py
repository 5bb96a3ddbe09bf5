"""Runs that have left their process, or hold it, until somebody or the clock lets them go on."""

from dataclasses import dataclass

from flowdeck import (
    Completed,
    RunInput,
    ShResult,
    flow,
    pause_flow_run,
    receive_input,
    sh,
    sleep,
    suspend_flow_run,
    task,
)
from notes import Notes
from pydantic import BaseModel


@dataclass
class Point:
    x: int


class Approval(RunInput):
    approved: bool
    note: str = "none"


class Amount(BaseModel):
    amount: int
    unit: str = "kg"


@task
def step(flow, number, value=None):
    Notes(flow).ran(f"step {number}")
    return {"point": Point(number), "state": [Completed(data=Point(number + 1)), 0], "value": value}


@flow
def suspended():
    noted = Notes("suspended")
    first = step("suspended", 1)
    noted.got("first", first)
    noted.got("said", sh("echo hello"), ShResult)
    suspend_flow_run()
    noted.got("second", step("suspended", 2, first["point"]))
    return "went on"


@flow
def asking():
    noted = Notes("asking")
    noted.got("first", step("asking", 1))
    noted.got("message", next(receive_input(str, timeout=60)))
    noted.got("answer", suspend_flow_run(wait_for_input=Approval), Approval)
    noted.got("second", step("asking", 2))
    amount = suspend_flow_run(wait_for_input=Amount, key="amount")
    noted.got("amount", amount, Amount)
    noted.got("third", step("asking", 3, amount))
    return amount.amount


@flow
def pausing():
    noted = Notes("pausing")
    noted.got("first", step("pausing", 1))
    noted.got("number", pause_flow_run(wait_for_input=int))
    noted.got("second", step("pausing", 2))


@flow
def asleep():
    noted = Notes("asleep")
    noted.got("first", step("asleep", 1))
    sleep(20)
    noted.got("second", step("asleep", 2))
