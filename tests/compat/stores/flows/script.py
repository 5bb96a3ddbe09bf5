"""A script: its classes are those of ``__main__`` when it runs, and travel into results by value."""

import enum
import pickle
from dataclasses import dataclass
from typing import Any

from flowdeck import CommandFailed, Completed, RunInput, ShResult, State, flow, runtime, task
from notes import Beside, Notes, is_mended
from pydantic import BaseModel

noted = Notes("by_value")


@dataclass
class Point:
    x: int
    y: int = 0

    def moved(self, by):
        return Point(self.x + by, self.y)


class Colour(enum.Enum):
    RED = "red"


class Plain:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"Plain({self.text!r})"


class Model(BaseModel):
    name: str
    colour: Colour = Colour.RED


class Answer(RunInput):
    approved: bool = True


class Trouble(CommandFailed):
    """An exception of the user's that extends one of ours."""


class Backwards:
    """A serializer of the user's own."""

    def dumps(self, value):
        return pickle.dumps(value)[::-1]

    def loads(self, data):
        return pickle.loads(data[::-1])


def finished(value):
    return Completed(data=[value, Point(1).moved(2), runtime.flow_run.flow_name], message="by value")


MAKERS = {
    "dataclass": lambda: [Point(1, 2), Beside("b")],
    "enum": lambda: {"colour": Colour.RED},
    "plain": lambda: Plain("text"),
    "model": lambda: Model(name="m"),
    "input": lambda: Answer(approved=False),
    "error": lambda: [Trouble("worse", ShResult(1, "", "x", {}))],
    "states": lambda: [Completed(data=Point(3)), 1],
    "function": lambda: finished,
}


@task
def made(kind):
    noted.ran(f"made {kind}")
    return MAKERS[kind]()


@task(result_serializer=Backwards())
def own(value):
    noted.ran("own")
    return value


@task(result_serializer="compressed/pickle")
def squeezed():
    noted.ran("squeezed")
    return [Point(number) for number in range(300)]


@task
def gate():
    noted.ran("gate")
    if not is_mended():
        raise RuntimeError("not mended yet")
    return Point(8)


@flow
def by_value(spec: Any, where: Any = None):
    noted.got("spec", spec)
    noted.got("where", where)
    values = {kind: made(kind) for kind in MAKERS}
    called = values.pop("function")(7)
    for kind, value in values.items():
        noted.got(f"made {kind}", value)
    noted.got("function", called, State)
    noted.got("moved", values["dataclass"][0].moved(3))
    noted.got("own", own("text"))
    noted.got("squeezed", squeezed())
    noted.got("gate", gate())


if __name__ == "__main__":
    by_value(spec=(1, "two", {3}), where=Point(4, 5))
