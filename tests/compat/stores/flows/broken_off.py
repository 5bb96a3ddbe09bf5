"""Runs whose processes were killed in the middle: of a task, of a transaction, of a rollback, of a loop."""

from dataclasses import dataclass

from flowdeck import Completed, Flow, ShResult, context, flow, get_transaction, sh, task, transaction
from flowdeck.signals import LOOP
from notes import Notes, is_mended, wait_until_mended


@dataclass
class Point:
    x: int


killed_noted, undoing_noted, looping_noted = Notes("killed"), Notes("undoing"), Notes("looping")


# -- in the middle of a task, in a transaction -------------------------------------------------------------------------


def confirm(txn):
    killed_noted.ran(f"commit of {txn.get('point')}")


def never(_txn):
    killed_noted.ran("rollback")


@task(on_commit=[confirm], on_rollback=[never])
def reserve(number):
    killed_noted.ran(f"reserve {number}")
    get_transaction().set("point", Point(number))
    return Point(number)


@task
def in_flight(value):
    killed_noted.ran("in flight")
    print("in flight, the last line before the end", flush=True)
    wait_until_mended()
    return value


@task
def beside(number):
    killed_noted.ran(f"beside {number}")
    return Completed(data=number) if number == 1 else [Completed(data=Point(number)), number]


@flow
def killed():
    noted = killed_noted
    noted.got("said", sh("echo hello"), ShResult)
    noted.got("mapped", beside.map([1, 2, 3]).result())
    with transaction():
        noted.got("first", reserve(1), Point)
        noted.got("second", reserve(2), Point)
        noted.got("in flight", in_flight([Point(3), ShResult(0, "x", "y", {})]))
    noted.got("last", beside(4))


# -- in the middle of a rollback ---------------------------------------------------------------------------------------


def undo_first(txn):
    undoing_noted.ran(f"undo first {txn.get('point')}")
    wait_until_mended()


def undo_second(txn):
    undoing_noted.ran(f"undo second {txn.get('point')}")


@task(on_rollback=[undo_first, undo_second])
def put(number):
    undoing_noted.ran(f"put {number}")
    get_transaction().set("point", Point(number))
    return Point(number)


@task
def outside():
    undoing_noted.ran("outside")
    return Point(0)


@flow
def undoing():
    noted = undoing_noted
    noted.got("outside", outside(), Point)
    with transaction():
        noted.got("put", put(1), Point)
        if not is_mended():
            raise ValueError("in vain")


# -- in the middle of a loop -------------------------------------------------------------------------------------------


@task
def start():
    looping_noted.ran("start")
    return Point(10)


@task
def turns(begin):
    turn = context.get("task_loop_count", 1)
    looping_noted.ran(f"turn {turn}")
    looping_noted.got(f"turn {turn}", context.get("task_loop_result", begin), Point)
    if turn == 3:
        wait_until_mended()
    if turn < 5:
        raise LOOP(f"turn {turn} ended", result=Point(turn * 100))
    return Point(turn)


@task
def end(result):
    looping_noted.ran("end")
    looping_noted.got("end", result, Point)


with Flow("looping") as looping:
    end(turns(start()))
