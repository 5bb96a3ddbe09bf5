"""Taking slots as a step of a run: the effect that waits for them, and what a task with tags does before it begins."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from ..calls.frame import holding
from ..effects.effects import Effect, GoOn, Pass, Steps, Told, wakeable
from ..effects.interrupts import wait_set, woken_by
from .queue import Keeper
from .requests import Ask

if TYPE_CHECKING:
    from ..calls.task_call import TaskCall
    from ..effects.host import Host


R = TypeVar("R")


class TakeSlots(Effect):
    """Have the slots, or know why not; on the pool it holds no thread."""

    __slots__ = ("ask", "keeper")
    is_breakable = True

    def __init__(self, keeper: Keeper, ask: Ask) -> None:
        self.keeper = keeper
        self.ask = ask

    def perform(self, host: Host) -> None:
        """Blocks; the code around it is not busy meanwhile, and its thread of the pool is lent to others."""
        ended = threading.Event()
        self.keeper.take(self.ask, ended.set)
        gate = host.gate
        with (
            wakeable(host, self.ask.call, ended.set), gate.on_cancel(ended.set), gate.blocked(), host.pool.lending(),
            woken_by(ended.set),
        ):  # fmt: skip
            wait_set(ended)

    async def perform_async(self, host: Host) -> None:
        """As ``perform``, without blocking the event loop."""
        told = Told()
        self.keeper.take(self.ask, told.tell)
        gate = host.gate
        with wakeable(host, self.ask.call, told.tell), gate.on_cancel(told.tell), gate.blocked(), host.pool.lending():
            await told.wait()

    def begin(self, host: Host, go_on: GoOn) -> bool:  # noqa: ARG002 - the keeper calls back wherever it is
        """The keeper's thread goes on."""
        self.keeper.take(self.ask, go_on)
        return True


def take_steps(keeper: Keeper, host: Host, ask: Ask) -> Steps[Ask]:
    """Wait for the slots, which nobody has while the run is paused; returns the request that has them, or raises."""
    while True:
        try:
            yield TakeSlots(keeper, ask)
            host.gate.check()
            if ask.outcome != "held":
                raise ask.error()
        except BaseException:
            keeper.end(ask, "cancelled")
            if ask.outcome == "held":
                keeper.give_back(ask)
            raise
        if host.gate.is_open():
            return ask
        keeper.give_back(ask)
        yield Pass()
        ask = ask.again()


def task_slot_steps(call: TaskCall) -> Steps[None]:
    """Before a task with tags begins: a slot of each of its tags that has a limit. Sets ``call.slots``."""
    session = call.run.session
    names = session.keeper.limited(call.tag_names())
    if not names:
        return
    around = holding.get() if call.future is None else ()
    ask = Ask(names, 1, who=(call.run.id, call.seq, call.name), call=call, within=around)
    try:
        call.slots = yield from take_steps(session.keeper, session, ask)
        holding.set((*around, call.slots))
    finally:
        if ask.noted and call.state_type in ("PENDING", "SCHEDULED"):
            call.move("await_slot")


def with_slots(call: TaskCall, steps: Steps[R]) -> Steps[R]:
    """The steps of a task with tags: its last write gives its slots back, and if that cannot be, this does."""
    around = holding.get()
    try:
        state = yield from steps
    except BaseException:
        if call.slots is not None:
            call.run.session.keeper.give_back(call.slots)
        raise
    finally:
        if holding.get() is not around:
            holding.set(around)
    if call.slots is not None:
        keeper = call.run.session.keeper
        keeper.poke() if call.slots.is_given_back else keeper.give_back(call.slots)
    return state
