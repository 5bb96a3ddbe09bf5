"""Faults that the random sweep found once, each made to happen every time."""

from __future__ import annotations

import sys

import pytest

from .conftest import FLOWDECK, Field

pytestmark = pytest.mark.crash

NESTED = """
import os, signal
from flowdeck import flow, task

HERE = os.path.dirname(os.path.abspath(__file__))

def effect(text):
    with open(os.path.join(HERE, "effects"), "a") as file:
        file.write(text + "\\n")

@task
def inner(number):
    effect(f"begin inner-{number}")
    return number

@flow
def below(number):
    return inner(number)

@task
def outer():
    found = inner(1) + below(2) + sum(inner.map([3, 4]).result())
    effect("begin outer")
    if not os.path.exists(os.path.join(HERE, "killed")):
        open(os.path.join(HERE, "killed"), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return found

@flow
def nested():
    return outer()

if __name__ == "__main__":
    nested()
"""


def test_nested_calls_keep_their_identity_when_their_caller_was_never_shown(field: Field) -> None:
    """A task that is killed before anybody saw it run: what it had called and got is not done again."""
    field.file.write_text(NESTED)
    assert field.start(sys.executable, "-P", str(field.file)).wait(30) == -9
    assert field.start(*FLOWDECK, "retry", "--here", "1").wait(30) == 0, field.report()
    assert field.effects.begun() == {"inner-1": 1, "inner-2": 1, "inner-3": 1, "inner-4": 1, "outer": 2}
