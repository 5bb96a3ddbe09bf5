"""Tasks and flows whose function yields: the caller gets the items as they come, within the one run they belong to.

The body goes on only while the caller asks for the next item. All items together are the recorded result, which a
later attempt yields again without running the body. A caller who stops early ends the run as Completed, and its
items are not kept: what would come next is not known. Submitted, mapped or run by the daemon, a body is run to its
end and its items are a list.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ...states.state import State
from ..effects.effects import Call, Steps
from ..effects.interrupts import CoroutineSlot, ThreadSlot, engine_code

if TYPE_CHECKING:
    from ..effects.host import Host

_END: Any = object()
"""What stands for the end of an async body: its own exception may not leave a coroutine."""


class _Outcome:
    """What one execution of a body came to, as its steps are told."""

    def __init__(self) -> None:
        self.items: list[Any] | None = []
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.items, self.error = None, error


def collecting(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` run to its end; gives the list of what it yields."""
    if inspect.isasyncgenfunction(fn):

        async def collect_async(*args: Any, **kwargs: Any) -> list[Any]:
            return [item async for item in fn(*args, **kwargs)]

        return collect_async

    def collect(*args: Any, **kwargs: Any) -> list[Any]:
        return list(fn(*args, **kwargs))

    return collect


def iterate(host: Host, fn: Callable[..., Any], steps: Steps[State]) -> Generator[Any, Any, None]:
    """Drive ``steps``, yielding what their call of ``fn`` yields; raises what ended them."""
    ran = False
    answer, error = None, None
    while True:
        with _inside(host):
            try:
                effect = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                if type(effect) is not Call:
                    try:
                        answer = effect.perform(host)
                    except BaseException as raised:  # noqa: BLE001 - handed to the steps, which decide
                        error = raised
                    continue
            except StopIteration as end:
                state: State = end.value
                break
        ran, outcome = True, _Outcome()
        with suppress(GeneratorExit):  # the body was closed then; what is left of the steps yields nothing
            yield from _items(host, fn, effect, outcome)
        answer, error = outcome.items, outcome.error
    value = state.result()
    if not ran:
        yield from value or ()


def _items(
    host: Host, fn: Callable[..., Any], effect: Call, outcome: _Outcome
) -> Generator[Any, Any, None]:
    """One execution of the body."""
    items = outcome.items = []
    body = fn(*effect.args, **effect.kwargs)
    step: Callable[..., Any] = body.send
    given: Any = None
    while True:
        with _inside(host):
            try:
                items.append(_advance(host, effect, step, given))
            except StopIteration:
                return
            except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                outcome.fail(error)
                return
        try:
            given = yield items[-1]
            step = body.send
        except GeneratorExit:
            effect.owner.is_partial = True
            with _inside(host):
                try:
                    _advance(host, effect, lambda _none: body.close(), None)
                except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                    outcome.fail(error)
            return
        except BaseException as thrown:  # noqa: BLE001 - goes on into the body, as with any generator
            given, step = thrown, body.throw


def _advance(host: Host, effect: Call, step: Callable[..., Any], given: Any) -> Any:
    slot = ThreadSlot()
    with host.activations.interruptible(effect.frame, effect.owner, slot):
        return slot.call(effect.frame, step, (given,), {})


async def iterate_async(host: Host, fn: Callable[..., Any], steps: Steps[State]) -> AsyncGenerator[Any, Any]:
    """As ``iterate``, in the running event loop."""
    ran = False
    answer, error = None, None
    while True:
        with host.gate.blocked():
            try:
                effect = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                if type(effect) is not Call:
                    try:
                        answer = await effect.perform_async(host)
                    except BaseException as raised:  # noqa: BLE001 - handed to the steps, which decide
                        error = raised
                    continue
            except StopIteration as end:
                state: State = end.value
                break
        ran, outcome = True, _Outcome()
        items = _items_async(host, fn, effect, outcome)
        given, step = None, items.asend
        while (item := await _next_async(step, given)) is not _END:
            try:
                given, step = (yield item), items.asend
            except GeneratorExit:
                await items.aclose()
                break
            except BaseException as thrown:  # noqa: BLE001 - goes on into the body, as with any generator
                given, step = thrown, items.athrow
        answer, error = outcome.items, outcome.error
    value = state.result()
    if not ran:
        for item in value or ():
            yield item


async def _items_async(
    host: Host, fn: Callable[..., Any], effect: Call, outcome: _Outcome
) -> AsyncGenerator[Any, Any]:
    """One execution of the async body."""
    items = outcome.items = []
    body = fn(*effect.args, **effect.kwargs)
    step, given = body.asend, None
    while True:
        try:
            with host.gate.blocked():
                item = await _advance_async(host, effect, step, given)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            outcome.fail(error)
            return
        if item is _END:
            return
        items.append(item)
        try:
            given, step = (yield item), body.asend
        except GeneratorExit:
            effect.owner.is_partial = True
            await body.aclose()
            return
        except BaseException as thrown:  # noqa: BLE001 - goes on into the body, as with any generator
            given, step = thrown, body.athrow


async def _next_async(step: Callable[..., Any], given: Any) -> Any:
    try:
        return await step(given)
    except StopAsyncIteration:
        return _END


async def _advance_async(host: Host, effect: Call, step: Callable[..., Any], given: Any) -> Any:
    slot = CoroutineSlot()
    with host.activations.interruptible(effect.frame, effect.owner, slot):
        return await slot.run(effect.frame, _next_async, (step, given), {})


@contextmanager
def _inside(host: Host) -> Generator[None, None, None]:
    """The engine works; the code that iterates is not interrupted and does not count as busy meanwhile."""
    with engine_code(), host.gate.blocked():
        yield
