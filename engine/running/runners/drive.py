"""The steps of one call on the threads of a pool: it holds one only while something of it executes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ....store.states import is_terminal
from ...errors import Suspended
from ...states.state import Cancelled, State
from ..effects.effects import Effect, GoOn, Steps

if TYPE_CHECKING:
    from ..calls.task_call import TaskCall
    from .threads import Pool


class Drive:
    """Performs the steps of one call on pool threads; while an effect that was begun lasts, it holds none."""

    __slots__ = ("_answer", "_context", "_error", "_pool", "_steps", "_waits_for", "call", "thread")

    def __init__(self, pool: Pool, call: TaskCall) -> None:
        self._pool = pool
        self.call = call
        self.thread = 0
        self._steps: Steps[State] | None = None
        assert call.context is not None  # it was submitted
        self._context = call.context.copy()
        call.context = None
        self._answer: Any = None
        self._error: BaseException | None = None
        self._waits_for: object = None
        """The wait under way: whoever wakes from an earlier one finds nobody."""

    def advance(self) -> None:
        """Go on until the steps end or have to wait."""
        host = self._pool.host
        try:
            while True:
                effect = self._context.run(self._next)
                if effect.is_breakable:
                    effect.begin(host, self._listen())
                    return
                if effect.begin(host, self._done):
                    return
                self._perform(effect)
        except StopIteration as end:
            self._pool.settle(self.call, end.value)
        except Suspended:
            return  # nobody may take this for an outcome: the call is made again
        except Cancelled as error:
            self._pool.settle(self.call, State("CANCELLED", None, str(error), error=error))
        except BaseException as error:  # noqa: BLE001 - settle whatever happens
            self._pool.settle(self.call, State("CRASHED", None, f"{type(error).__name__}: {error}", error=error))

    def _next(self) -> Effect:
        answer, error = self._answer, self._error
        self._answer = self._error = None
        steps = self._steps
        if steps is None:
            steps = self._steps = self._pool.steps_of(self.call)
            if error is None:
                return next(steps)
        if error is not None:
            return steps.throw(error)
        return steps.send(answer)

    def _perform(self, effect: Effect) -> None:
        in_code = self._pool.in_code
        self.thread = threading.get_ident()
        in_code.add(self)
        try:
            self._answer = self._context.run(effect.perform, self._pool.host)
        except BaseException as error:  # noqa: BLE001 - handed to the steps, which decide
            self._error = error
        finally:
            in_code.discard(self)

    def _listen(self) -> GoOn:
        """From here on a word for the call, to end or of what was decided, breaks off what it waits for."""
        nodes = self._pool.host.nodes
        wait = self._waits_for = object()

        def woken(*_: object) -> None:
            self._woken(wait)

        nodes.waiting[self.call] = woken
        if nodes.has_word_for(self.call):
            woken()
        return woken

    def _woken(self, wait: object) -> None:
        """Whatever it waited for came; what comes after that finds nobody waiting."""
        host = self._pool.host
        with self._pool.lock:
            if self._waits_for is not wait:
                return
            self._waits_for = None
        host.nodes.waiting.pop(self.call, None)
        try:
            host.gate.check()
            host.nodes.check(self.call)
        except (Cancelled, Suspended) as error:
            self._error = error
        self._pool.put(self.advance)

    def _done(self, value: Any, error: BaseException | None) -> None:
        """On the writer's thread: what is left is short unless it has hooks, own or staged, or has still to begin."""
        self._answer, self._error = value, error
        call = self.call
        is_short = call.task.keeps_value and not call.task.has_hooks and call.transaction is None
        if not is_short or not is_terminal(call.state_type, call.state_name):
            self._pool.put(self.advance)  # hooks follow, or its code runs again: a loop, a pause
        else:
            self.advance()
