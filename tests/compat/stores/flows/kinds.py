"""A flow whose finished tasks left results of every kind, and which failed then; it completes once it is mended."""

import enum
import pickle
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import flowdeck.schedules
import flowdeck.signals
import flowdeck.state
from flowdeck import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    AcquireConcurrencySlotTimeoutError,
    Artifact,
    CacheKeyFnPolicy,
    Cancelled,
    CommandFailed,
    CommandTimedOut,
    CommitMode,
    Completed,
    ConcurrencySlotAcquisitionError,
    Crashed,
    Cron,
    Dates,
    Event,
    Failed,
    Flow,
    FlowdeckError,
    FlowPauseTimeout,
    InputError,
    Interval,
    IsolationLevel,
    MappingLengthMismatch,
    MappingMissingIterable,
    MissingContextError,
    Parameter,
    Paused,
    PauseTimedOut,
    Pending,
    RRule,
    RunInput,
    Running,
    Scheduled,
    ShResult,
    State,
    TransactionState,
    Variable,
    allow_failure,
    context,
    create_markdown_artifact,
    create_progress_artifact,
    emit_event,
    flow,
    opaque,
    quote,
    sh,
    task,
    transaction,
    unmapped,
)
from notes import Beside, Notes, is_mended
from pydantic import BaseModel

noted = Notes("kinds")


# -- classes of the flow file ------------------------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: int = 0
    more: list = field(default_factory=list)


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Plain:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"Plain({self.text!r})"


class Slotted:
    __slots__ = ("text",)

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"Slotted({self.text!r})"


class Pair(NamedTuple):
    left: int
    right: str


Old = namedtuple("Old", "a b")


class Model(BaseModel):
    name: str
    tags: list[str] = []
    colour: Colour = Colour.RED


class Answer(RunInput):
    approved: bool
    note: str = ""


class Trouble(CommandFailed):
    """An exception of the user's that extends one of ours."""


class Backwards:
    """A serializer of the user's own."""

    def dumps(self, value):
        return pickle.dumps(value)[::-1]

    def loads(self, data):
        return pickle.loads(data[::-1])


# -- results -----------------------------------------------------------------------------------------------------------

SAID = ShResult(3, "out\n", "err\n", {"key": "value", "n": 1})


def states():
    return {
        "completed": Completed(data=Point(1, 2), message="by hand"),
        "empty": Completed(),
        "named": Completed(name="Clean", data=None),
        "failed": Failed(data=ValueError("bad")),
        "crashed": Crashed(message="gone"),
        "others": [Pending(), Running(), Scheduled(message="later"), Paused(name="Held")],
        "made": State("CANCELLED", "Skipped", "not today", data=SAID),
    }


def classic_states():
    kinds = [getattr(flowdeck.state, name) for name in flowdeck.state.__all__ if name != "State"]
    return [kind(f"why {number}", {"n": number}) for number, kind in enumerate(kinds)]


def signals():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return [
        flowdeck.signals.LOOP("again", result=Point(3)), flowdeck.signals.SKIP("nothing new"),
        flowdeck.signals.RETRY("later", start_time=at), flowdeck.signals.FAIL("no"),
        flowdeck.signals.SUCCESS("yes", result=5), flowdeck.signals.PAUSE("wait"),
        flowdeck.signals.TRIGGERFAIL("unmet"), flowdeck.signals.VALIDATIONFAIL("odd"),
    ]  # fmt: skip


def errors():
    plain = [
        AcquireConcurrencySlotTimeoutError, CommandTimedOut, ConcurrencySlotAcquisitionError, FlowPauseTimeout,
        FlowdeckError, InputError, MappingLengthMismatch, MappingMissingIterable, MissingContextError, PauseTimedOut,
        Cancelled,
    ]  # fmt: skip
    return [
        CommandFailed("ended with code 3", SAID), Trouble("worse", SAID), *(kind(kind.__name__) for kind in plain),
        Cancelled(message="no", name="Declined"),
        *(state.result(raise_on_failure=False) for state in (Failed(message="f"), Crashed(message="c"))),
        State("PENDING", "NotReady", "upstream").result(raise_on_failure=False),
    ]  # fmt: skip


def event():
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return emit_event("order.paid", {"prefect.resource.id": "order.7"}, at, payload={"total": 12.5}, id="event-7")


def artifact():
    create_markdown_artifact("# Report", key="report", description="daily")
    progress = create_progress_artifact(40, key="progress")
    return [Artifact.get("report"), Artifact.get("progress"), progress]


MAKERS = {
    "states": states,
    "classic states": classic_states,
    "signals": signals,
    "errors": errors,
    "event": event,
    "stub event": lambda: Event("stub", {"id": "a"}, datetime(2026, 1, 1, tzinfo=UTC), id="stub-1"),
    "artifact": artifact,
    "variable": lambda: Variable("city", {"name": "Oslo"}, ["geo"]),
    "annotations": lambda: [allow_failure(1), unmapped(Point(2)), quote("x"), opaque([3])],
    "schedules": lambda: [
        Cron("0 6 * * *", "Europe/Oslo", slug="daily"), Interval(90, parameters={"n": 1}), RRule("FREQ=DAILY"),
        Dates(["2026-01-01T00:00:00Z"]),
    ],
    "clocks": lambda: [flowdeck.schedules.IntervalClock(timedelta(hours=1)), flowdeck.schedules.CronClock("0 0 * * *")],
    "modes": lambda: [*CommitMode, *TransactionState, *IsolationLevel],
    "policies": lambda: [DEFAULT, INPUTS, RUN_ID, FLOW_PARAMETERS, NO_CACHE, INPUTS - "x", CacheKeyFnPolicy(len)],
    "a said": lambda: [SAID, {"nested": (SAID,)}],
    "dataclass": lambda: Point(1, 2, [Point(3)]),
    "enum": lambda: [Colour.GREEN, Level.HIGH],
    "plain": lambda: [Plain("text"), Slotted("slot"), Beside("beside")],
    "tuples": lambda: (Pair(1, "b"), Old(1, 2), {Pair(2, "c"): {3, 4}}),
    "model": lambda: Model(name="m", tags=["a"], colour=Colour.GREEN),
    "input": lambda: Answer(approved=True, note="fine"),
    "json": lambda: {"a": [1, 2.5, None, True, "é"]},
    "class": lambda: [Point, Colour, State, ShResult, CommandFailed, len],
    "file": lambda: bytes(range(256)) * 400,
    "large": lambda: b"flowdeck " * 1_000_000,
    "large parts": lambda: [Point(number, number, ["x" * 10_000]) for number in range(20)],
}  # fmt: skip


@task
def made(kind):
    noted.ran(f"made {kind}")
    return MAKERS[kind]()


@task(result_serializer=Backwards())
def own():
    noted.ran("own")
    return [SAID, Completed(data=[SAID]), "text"]


@task(result_serializer="compressed/pickle")
def squeezed():
    noted.ran("squeezed")
    return [Point(number) for number in range(500)] + [SAID]


@task(result_serializer="pickle")
def pickled(value):
    noted.ran("pickled")
    return value


@task(persist_result=True, cache_policy=INPUTS)
def looked_up(value):
    noted.ran("looked up")
    return Point(value.x + 1)


@task(on_commit=[lambda txn: noted.ran("commit hook")], on_rollback=[lambda txn: noted.ran("rollback hook")])
def booked(number):
    noted.ran(f"booked {number}")
    return Pair(number, "booked")


@task
def small(number):
    noted.ran(f"small {number}")
    return number * 2


@task
def broken():
    noted.ran("broken")
    raise Trouble("always", SAID)


@task
def fed(point, said, value):
    noted.ran("fed")
    return [point, said, value]


@task
def turns():
    turn = context.get("task_loop_count", 1)
    noted.ran(f"turn {turn}")
    if turn < 3:
        raise flowdeck.signals.LOOP("on", result=Point(turn))
    return context.task_loop_result


@task
def left_out():
    noted.ran("left out")
    raise flowdeck.signals.SKIP("nothing new")


with Flow("graph") as graph:
    turns()
    left_out()
    small.map([Parameter("n", default=5), 6])


@flow
def inner(point):
    noted.ran("inner")
    return Model(name=f"inner {small(point.x)}")


@task
def gate(values):
    noted.ran("gate")
    if not is_mended():
        raise RuntimeError("not mended yet")
    return f"mended, {values} values"


@flow
def kinds():
    values = {kind: made(kind) for kind in MAKERS}
    for kind, value in values.items():
        noted.got(f"made {kind}", value)
    said = sh('echo "kinds ran sh" >> "$EFFECTS"; echo hello; echo oops >&2; echo key=value >> "$FLOWDECK_OUTPUT"; '
              "exit 3", check=False)  # fmt: skip
    noted.got("sh", said, ShResult)
    noted.got("sh outputs", [said.exit_code, said.outputs, str(said)])
    noted.got("point", values["dataclass"], Point)
    noted.got("model", values["model"], Model)
    noted.got("input", values["input"], Answer)
    noted.got("colour", values["enum"][0] is Colour.GREEN)
    noted.got("event", values["event"], Event)
    noted.got("state", values["states"]["completed"], State)
    noted.got("state's value", values["states"]["completed"].result(), Point)
    noted.got("own", own())
    noted.got("squeezed", squeezed())
    noted.got("pickled", pickled(values["annotations"]))
    noted.got("looked up", looked_up(Point(9)), Point)
    with transaction(key="kinds") as block:
        noted.got("booked", [booked(1), booked.submit(2).result()])
        block.stage(Point(5, 6))
    noted.got("block", block.read())
    noted.got("mapped", small.map([1, 2, 3]).result())
    noted.got("small state", small(7, return_state=True), State)
    noted.got("broken state", broken(return_state=True))
    noted.got("graph", graph(n=4, return_state=True).name)
    noted.got("inner", inner(values["dataclass"]), Model)
    noted.got("inner state", inner(Point(2), return_state=True))
    noted.got("fed", fed(values["dataclass"], said, quote(values["states"])))
    noted.got("fed anew", fed(Point(7), ShResult(0, "a", "b", {}), quote([Completed(data=SAID), Colour.RED])))
    word = gate(len(values))
    noted.got("gate", word)
    noted.got("fed at last", fed(values["plain"], values["errors"][0], word))
    return word
