"""A flow whose every task is a hit of the cache once the flow has run: inputs and results of many kinds."""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime

import flowdeck.state
from flowdeck import (
    INPUTS,
    CommandFailed,
    Completed,
    Cron,
    Event,
    IsolationLevel,
    ShResult,
    flow,
    quote,
    sh,
    task,
    task_input_hash,
    transaction,
)
from notes import Notes
from pydantic import BaseModel

noted = Notes("cached")


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


class Colour(enum.Enum):
    RED = "red"


class Plain:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"Plain({self.text!r})"


class Model(BaseModel):
    name: str


@task(cache_policy=INPUTS, persist_result=True)
def by_inputs(what, value):
    noted.ran(f"by inputs {what}")
    return [what, value, Point(len(what))]


@task(cache_key_fn=task_input_hash)
def by_hash(value):
    noted.ran("by hash")
    return Model(name=str(value))


@task(cache_key_fn=lambda context, parameters: f"key {parameters['value']}", result_serializer="compressed/pickle")
def by_key(value):
    noted.ran("by key")
    return b"large " * value


@task(cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE))
def one_at_a_time(value):
    noted.ran("one at a time")
    return value


@task(result_storage_key="stored-{parameters[name]}")
def by_template(name):
    noted.ran("by template")
    return Colour.RED


@task(cache_policy=INPUTS)
def in_block(number):
    noted.ran(f"in block {number}")
    return Point(number)


@flow
def cached():
    inputs = {
        "number": 7,
        "texts": {"a": ["b", "c"]},
        "said": sh("echo said"),
        "made said": ShResult(0, "a\n", "", {"k": 1}),
        "state": Completed(data=[1, 2], message="by hand"),
        "classic state": flowdeck.state.Success("fine", 7),
        "error": CommandFailed("no", ShResult(2, "", "no\n", {})),
        "event": Event("paid", {"id": "a"}, datetime(2026, 1, 1, tzinfo=UTC), id="e-1"),
        "cron": Cron("0 6 * * *"),
        "mode": IsolationLevel.SERIALIZABLE,
        "point": Point(1, 2),
        "colour": Colour.RED,
        "plain": Plain("text"),
        "model": Model(name="m"),
        "bytes": bytes(range(256)) * 400,
    }
    for what, value in inputs.items():
        noted.got(f"by inputs {what}", by_inputs(what, quote(value) if what.endswith("state") else value))
    noted.got("by hash", by_hash(Point(3)), Model)
    noted.got("by key", by_key(20_000))
    noted.got("one at a time", one_at_a_time(ShResult(1, "x", "y", {})), ShResult)
    noted.got("by template", by_template("red"), Colour)
    with transaction(key="cached block") as block:
        if not block.is_committed():
            noted.ran("block")
            block.stage(in_block(1))
    noted.got("block", block.read())
    noted.got("in block", in_block(1), Point)
