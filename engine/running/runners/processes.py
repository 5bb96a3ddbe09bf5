"""The run's side of its worker processes: where ``isolation="process"`` and ``ProcessPoolTaskRunner`` run a function.

``ProcessCall`` is another way to perform ``Call``; everything else of a task stays on the one path. A worker leads a
process group of its own: a timeout or a cancellation sends it SIGTERM and, after a short grace, SIGKILL, whatever its
code is doing. One that dies fails its task alone. Workers of a pool are kept warm until the run ends, those of
isolated tasks end with their task.
"""

from __future__ import annotations

import contextvars
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ...context import current_tags
from ...encoding.tracebacks import ELSEWHERE
from ...errors import RunFailed, Suspended, UsageError, WorkerDied
from ...secrets import masking
from ...settings import pool_size
from ...states import exits as deaths
from ...states.state import Cancelled, describe_exception
from ...system.clock import now_us
from ..calls.call_parts import Usage
from ..calls.frame import current_frame
from ..effects import borders
from ..effects.effects import Call
from ..effects.interrupts import ProcessSlot
from . import flow_module
from . import payloads as parcels
from .fork_client import WorkerServer
from .worker import Worker

if TYPE_CHECKING:
    from ...authoring.task_runners import ProcessPoolTaskRunner
    from ..calls.flow_run import FlowRun
    from ..calls.task_call import TaskCall
    from ..effects.host import Host

_MOST_ISOLATED: Final = 32


class ProcessCall(Call):
    """Run the user's function in a worker process."""

    __slots__ = ("call", "runner")

    def __init__(self, call: TaskCall, plain: Call, runner: ProcessPoolTaskRunner | None) -> None:
        super().__init__(plain.fn, plain.args, plain.kwargs, plain.frame, plain.owner, plain.is_async)
        self.call = call
        self.runner = runner
        """Whose warm workers to use; None for a process of its own."""

    def perform(self, host: Host) -> Any:
        """Blocks this thread until the worker is done with it."""
        return self._perform(host, ProcessSlot())

    def _perform(self, host: Host, slot: ProcessSlot) -> Any:
        parcel = parcels.pack_call(self.call.name, self.fn, self.args, self.kwargs, self.call.task.fn)
        place = Place(host.workers.places_of(self.runner))
        with host.activations.listed(slot, self.owner):
            place.take(self.call, slot)
        try:
            with host.activations.listed(slot, self.owner):
                worker = host.workers.worker_for(self.runner, slot)  # its start is no part of the task's time
            return host.workers.run(self, worker, place, parcel, slot)
        finally:
            place.give_back()

    async def perform_async(self, host: Host) -> Any:
        """As ``perform``, in a thread of its own."""
        import asyncio

        loop, slot = asyncio.get_running_loop(), ProcessSlot()
        done: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error is not None else done.set_result(value)

        def run() -> None:
            value, error = None, None
            try:
                value = self._perform(host, slot)
            except BaseException as raised:  # noqa: BLE001 - handed to the steps, which decide
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, error)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="flowdeck-process-call", daemon=True).start()
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            slot.interrupt(Cancelled("its coroutine was cancelled"))
            await asyncio.wait([done])
            done.exception()
            raise


class Places:
    """How many workers may be busy at once."""

    def __init__(self, count: int) -> None:
        self.free = count
        self.changed = threading.Condition()


class Place:
    """One call's place among them: taken, lent while it waits for others, and given back as often as it was taken."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._is_taken = False

    def take(self, call: TaskCall, slot: ProcessSlot) -> None:
        """Wait for it; raises Cancelled when the run, or the task, is to end, and has none then."""
        gate, places = call.run.session.gate, self._places
        with places.changed:
            while places.free <= 0:
                gate.check()
                call.run.check_stopped()
                if slot.error is not None:
                    raise slot.error
                places.changed.wait(0.05)
            places.free -= 1
            self._is_taken = True

    def give_back(self) -> None:
        """Somebody who waits may go on; nothing where it was not taken again."""
        with self._places.changed:
            if self._is_taken:
                self._is_taken = False
                self._places.free += 1
                self._places.changed.notify()


class Workers:
    """All worker processes of one root run, and the server that forks them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.RLock()
        self._server: WorkerServer | None = None
        self._idle: dict[ProcessPoolTaskRunner, list[Worker]] = {}
        self._places: dict[ProcessPoolTaskRunner | None, Places] = {}
        self._closed = False

    def places_of(self, runner: ProcessPoolTaskRunner | None) -> Places:
        """Where to wait for one's turn."""
        with self._lock:
            if runner not in self._places:
                most = runner.max_workers if runner is not None else None
                count = most or pool_size("PROCESS", None) or max(_MOST_ISOLATED, 4 * (os.cpu_count() or 1))
                self._places[runner] = Places(count)
            return self._places[runner]

    def worker_for(self, runner: ProcessPoolTaskRunner | None, slot: ProcessSlot) -> Worker:
        """A warm worker of the pool, or a new one."""
        return self._idle_worker(runner) or self._new_worker(runner, slot)

    def prepare(self) -> None:
        """Start the server, so that it is there when the first task needs it; a task says why if it cannot be."""
        with suppress(OSError):
            self._living_server()

    def run(self, effect: ProcessCall, worker: Worker, place: Place, parcel: bytes, slot: ProcessSlot) -> Any:
        """What the function returns, in a worker; raises what it raises, what ended it, or ``WorkerDied``."""
        call = effect.call
        keeps = False
        slot.wake_with(worker.wake)
        try:
            for output in worker.outputs:
                output.whose = (call.run.id, call.seq)
            parts = parcels.message(parcels.RUN, _header(worker, effect), parcel)
            if slot.error is not None:
                raise slot.error
            with self._host.activations.interruptible(effect.frame, effect.owner, slot):
                message = worker.exchange(parts, slot)
                while message is not None and message[0] == parcels.CALL and slot.error is None:
                    message = worker.exchange(_serve_call(effect, place, slot, message), slot)
            keeps = message is not None and slot.error is None and not message[1].get("ends")
        finally:
            slot.wake_with(None)
            for output in worker.outputs:
                output.end_task()
            if keeps and effect.runner is not None:
                self._keep(effect.runner, worker)
            else:
                self._discard(worker)
        if slot.error is not None:
            raise slot.error
        if message is None:
            fate = worker.fate or {}
            if "cpu_us" in fate:
                call.usage = Usage(fate["cpu_us"], fate["max_rss_bytes"])
            raise WorkerDied(f"its worker process {ending(fate)}")
        return _answer(call, *message)

    def _idle_worker(self, runner: ProcessPoolTaskRunner | None) -> Worker | None:
        with self._lock:
            idle = self._idle.get(runner, []) if runner is not None else []
            while idle:
                worker = idle.pop()
                if not worker.has_hung_up:
                    return worker
                self._discard(worker)
        return None

    def _new_worker(self, runner: ProcessPoolTaskRunner | None, slot: ProcessSlot) -> Worker:
        worker = self._living_server().fork()
        slot.wake_with(worker.wake)
        hello = worker.exchange((), slot)
        if hello is not None:
            worker.pid = hello[1]["pid"]
            for part in parcels.message(parcels.SET_UP, self._set_up(), _initializer(runner)):
                worker.line.setblocking(True)
                worker.line.sendall(part)
                worker.line.setblocking(False)
            return worker
        self._discard(worker)
        if slot.error is not None:
            raise slot.error
        raise WorkerDied(f"its worker process {ending(worker.fate or {})}")

    def _set_up(self) -> dict[str, Any]:
        host = self._host
        return {
            "path": list(sys.path), "argv": list(sys.argv), "cwd": os.getcwd(),
            "environment": dict(os.environ), "log_level": logging.getLogger().level,
            "flow_module": flow_module.describe(),
            "folder": os.path.abspath(host.folder), "root_id": host.root_id, "attempt": host.capture.attempt,
        }  # fmt: skip

    def _living_server(self) -> WorkerServer:
        with self._lock:
            if self._closed:
                raise Cancelled("the run has ended")
            if self._server is None or not self._server.is_alive:
                if self._server is not None:
                    self._server.close()
                self._server = WorkerServer(self._host)
            return self._server

    def _keep(self, runner: ProcessPoolTaskRunner, worker: Worker) -> None:
        with self._lock:
            if not self._closed:
                for output in worker.outputs:
                    output.whose = (self._host.root_id, None)
                self._idle.setdefault(runner, []).append(worker)
                return
        self._discard(worker)

    def _discard(self, worker: Worker) -> None:
        """It is not used again: it ends by itself, or is killed when it was told to end."""
        server = self._server
        worker.close()
        if server is not None:
            server.forget(worker)

    def close(self) -> None:
        """End all of them; none is left when this returns."""
        with self._lock:
            self._closed = True
            idle = [worker for workers in self._idle.values() for worker in workers]
            self._idle.clear()
            server = self._server
        for worker in idle:
            worker.close()
        if server is not None:
            server.close()


def _serve_call(
    effect: ProcessCall, place: Place, slot: ProcessSlot, message: tuple[int, dict[str, Any], bytes]
) -> tuple[bytes, ...]:
    """Run a task that the code in the worker calls, here, as any call of its task's; the message with what came of it.

    The worker's place is free for others meanwhile: what it waits for may need one.
    """
    token = current_frame.set(effect.frame)
    try:
        task, args, kwargs = parcels.unpack(message[2])
        place.give_back()
        try:
            value = effect.frame.run.session.calls.call(
                effect.frame, task, args, kwargs, message[1]["return_state"], None
            )
        finally:
            place.take(effect.call, slot)
        return parcels.message(parcels.ANSWER, {"text": None}, parcels.pack(value))
    except BaseException as error:  # noqa: BLE001 - the user's task, and its classes
        gate = effect.call.run.session.gate
        if slot.error is None and not gate.is_cancelled and not isinstance(error, Suspended):
            return _error_message(error)
        raise (slot.error or error) from None  # its time is up: what it called ended with it
    finally:
        current_frame.reset(token)


def _error_message(error: BaseException) -> tuple[bytes, ...]:
    try:
        parcel = parcels.pack_error(error.with_traceback(None))
    except BaseException:  # noqa: BLE001 - the user's classes
        parcel = b""
    return parcels.message(parcels.ANSWER, {"text": describe_exception(error)}, parcel)


def process_call(call: TaskCall, plain: Call) -> ProcessCall:
    """``plain``, in a process of its own or a warm worker of the run's pool."""
    runner = call.run.process_runner if call.task.isolation is None else None
    call.usage = None
    return ProcessCall(call, plain, runner)


def _header(worker: Worker, effect: ProcessCall) -> dict[str, Any]:
    call, run = effect.call, effect.call.run
    known, described = run.id in worker.known_runs, None
    if not known:
        worker.known_runs.add(run.id)
        described = _describe(run)
    return {
        "run": described, "run_id": run.id, "run_attempt": run.attempt, "is_async": effect.is_async,
        "tags": current_tags.get(), "concealed": worker.new_concealed(),
        "task": {"seq": call.seq, "key": call.key, "name": call.name, "attempt": call.attempt, "tags": call.tags,
                 "map_index": call.map_index, "uncounted": call.uncounted},
        "again": parcels.pack(call.again) if call.again is not None else None,
    }  # fmt: skip


def _describe(run: FlowRun) -> dict[str, Any]:
    """What ``runtime`` tells of a run."""
    described = {
        "id": run.id, "name": run.name, "flow": run.flow.name, "version": run.flow.version,
        "parent_id": run.parent.run.id if run.parent is not None else None, "parameters": dict(run.parameters),
    }  # fmt: skip
    try:
        parcels.unpack(parcels.pack(described))
    except (Exception, SystemExit):  # noqa: BLE001 - the user's objects; the task is not to fail for what it may never ask
        described["parameters"] = {key: repr(value)[:200] for key, value in run.parameters.items()}
    return described


def _initializer(runner: ProcessPoolTaskRunner | None) -> bytes:
    if runner is None or runner.initializer is None:
        return b""
    return parcels.pack_call("initializer", runner.initializer, runner.initargs, {})


def _answer(call: TaskCall, kind: int, header: dict[str, Any], parcel: bytes) -> Any:
    if "concealed" in header:
        masking.adopt(header["concealed"])
    if "cpu_us" in header:
        call.usage = Usage(header["cpu_us"], header["peak_rss_bytes"])
    if kind == parcels.RETURNED:
        try:
            return parcels.unpack(parcel)
        except (Exception, SystemExit) as broken:  # noqa: BLE001 - what the user's classes do
            raise UsageError(f"task {call.name}: its result cannot be read: {describe_exception(broken)}") from None
    if kind == parcels.UNSENDABLE:
        raise UsageError(f"task {call.name}: {header['text']}")
    error: BaseException = RunFailed(header["text"])
    if parcel:
        try:
            error = parcels.unpack_error(parcel)
        except (Exception, SystemExit) as broken:  # noqa: BLE001 - what the user's classes do
            text = f"{header['text']} (the exception itself cannot be read: {describe_exception(broken)})"
            error = RunFailed(text)
    borders.admit(error)
    error.__dict__[ELSEWHERE] = header["traceback"]
    raise error


def ending(fate: dict[str, Any]) -> str:
    """How it ended, after "its worker process"."""
    if "trouble" in fate:
        return f"could not be made: {fate['trouble']}"
    if "status" not in fate:
        return "ended and nobody saw how"
    death = deaths.from_wait_status(
        0, fate["pid"], fate["status"], max_rss_bytes=fate["max_rss_bytes"], out_of_memory=fate["out_of_memory"],
        ended_at_us=now_us(),
    )
    if death.out_of_memory:
        return f"ran {death.cause}"
    return f"was {death.cause}" if death.signal is not None else death.cause
