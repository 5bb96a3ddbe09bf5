"""The guard of a run: a process beside it that sees to its end, whatever the run's own code does.

Code in C may hold the interpreter for ever, a bare ``except`` may swallow what is raised in it, a process may be
stopped: then the run's own process neither sees a request nor obeys one. The guard runs nothing of the user's. It has
a connection of its own, looks for a request every 25 ms, and gives the run its grace; then TERM, then KILL, to what is
the run's and to nothing else. It needs no daemon: what it has ended it also settles where no daemon does.

Two kinds. *The parent of a run* that a code host started: it adopts orphans, so that whatever the run starts stays
beneath it; it waits for the run's process and leaves the record of how that ended. *The companion of a script*: the
run's process stays what the shell started, adopts orphans itself, and is watched from beside. One companion serves all
root runs of its process, one after the other and at the same time; none of these is ended because of another.

A guard ends by nothing but its run's end and KILL. It holds nothing open that the run's readers wait for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ....store import judging
from ....store.connection import connect
from ....store.driver_errors import store_errors
from ....store.errors import StoreError
from ....store.tables import leases
from ...states import exits as deaths
from ...states.state import describe_exception
from ...system import processes
from ...system.clock import now_us
from .wards import Eyes, Ward, tell

LOOK_SECONDS: Final = 0.025
FIRST_LOOK_SECONDS: Final = 0.05
"""Most runs are over before anybody asks anything of them: then the guard never opens the store."""
MARGIN_SECONDS: Final = 0.75
"""Beyond the grace: the run's own process ends what it can until then, and says so better."""
TERM_SECONDS: Final = 2.0
"""Between TERM and KILL, at most."""
LOCK_SECONDS: Final = 0.5
"""Between looks for a stopped process that holds the write lock."""
RECORD_AGAIN_SECONDS: Final = 0.25
"""Between tries to leave a record that the disk has no room for."""
LEFT_SECONDS: Final = 5.0
"""How long killed processes may take to be gone (an uninterruptible one may take for ever)."""
_NAME: Final = b"flowdeck-guard"


class Guard(ABC):
    """What both kinds have in common: when is told, when is killed. The wards are looked after one by one."""

    def __init__(self) -> None:
        self.wards: list[Ward] = []
        self._eyes: dict[str, Eyes] = {}
        self._look_at = time.monotonic() + FIRST_LOOK_SECONDS
        self._look_for_lock_at = time.monotonic() + LOCK_SECONDS

    def tick(self) -> float | None:
        """Look, and do what is due; returns how many seconds later again, None when there is nothing to do."""
        if not self.wards:
            return None
        now = time.monotonic()
        if now >= self._look_at:
            self.look(now)
            self._look_at = now + LOOK_SECONDS
        for ward in list(self.wards):
            if ward.asked_at is not None:
                self._enforce(ward, now)
        if now >= self._look_for_lock_at:
            self._look_for_lock_at = now + LOCK_SECONDS
            for ward in self.wards:
                self._free_lock(ward)
        return max(0.0, self._look_at - time.monotonic())

    def _free_lock(self, ward: Ward) -> None:
        fields = judging.stat_fields(ward.process.pid)
        if fields is not None and fields[0] == "T":
            from .stopped import go_on_to_end_of_transaction

            go_on_to_end_of_transaction(ward, LOCK_SECONDS)

    def look(self, now: float) -> None:
        """See what was asked, in each store."""
        for folder in {ward.folder for ward in self.wards}:
            eyes = self._eyes.setdefault(folder, Eyes(folder))
            eyes.look([ward for ward in self.wards if ward.folder == folder], now)

    def look_again(self) -> None:
        """As ``look``, whether anything seems to have changed or not."""
        for eyes in self._eyes.values():
            eyes.forget()
        self.look(time.monotonic())

    def _enforce(self, ward: Ward, now: float) -> None:
        grace = ward.grace
        assert ward.asked_at is not None
        term_at = ward.asked_at + grace + (MARGIN_SECONDS if grace else 0.0)
        if now >= term_at + min(TERM_SECONDS, grace):
            self.kill(ward)
        elif now >= term_at and not ward.was_told:
            ward.was_told = True
            ward.say(f"run #{ward.run_id} did not end within {grace:g} s of its cancellation: SIGTERM")
            self.terminate(ward)

    @abstractmethod
    def terminate(self, ward: Ward) -> None:
        """Ask the run's processes to end."""

    @abstractmethod
    def kill(self, ward: Ward) -> None:
        """End the run's processes."""

    @abstractmethod
    def leader_of(self, ward: Ward) -> int | None:
        """Of a session and group that are the run's alone; None where it has no such."""

    @abstractmethod
    def family_of(self, ward: Ward) -> processes.Family | None:
        """Where its descendants are."""

    def find(self, ward: Ward) -> list[int]:
        """Live processes of the run."""
        return processes.of_run(
            self.leader_of(ward), ward.process.started_ticks, ward.mark, self.family_of(ward)
        )

    def kill_rest(self, ward: Ward) -> None:
        """Kill what the run's process left; what goes on is named."""
        if left := processes.kill_all(lambda: self.find(ward), LEFT_SECONDS):
            ward.say(f"not ended with run #{ward.run_id}: {processes.named(left)}; end them as their user, or as root")


def settle(ward: Ward) -> None:
    """Record the end of a cancelled run whose process is gone, where no daemon does."""
    with contextlib.suppress(StoreError), store_errors(ward.folder):  # whoever finds the run dead does it then
        from ...control import reaping

        state = connect(ward.folder, "state")
        telemetry = connect(ward.folder, "telemetry")
        try:
            daemon = leases.get(state, leases.DAEMON)
            lease = leases.of_run(state, ward.run_id)
            if daemon is not None and leases.is_alive(daemon, ward.folder):
                return
            if lease is not None and judging.same(lease, ward.process):
                reaping.reap(state, telemetry, ward.folder, lease, now_us())
        finally:
            state.close()
            telemetry.close()


class ParentGuard(Guard):
    """The parent of a run's process, which a code host started."""

    def __init__(self, ward: Ward, oom: deaths.OomWatch, host: int) -> None:
        super().__init__()
        self._host = host
        """Where the code host reads how the run's process ended, if it still lives."""
        self.wards.append(ward)
        self._ward = ward
        self._oom = oom
        self._death: deaths.Death | None = None
        self._is_told = False

    def watch(self) -> None:
        """Until the run's process has ended, and what it left where it must not stay."""
        ward, wake_read = self._ward, wake_on_children()
        signal.signal(signal.SIGTERM, self._tell)
        waiting = select.poll()
        waiting.register(wake_read, select.POLLIN)
        while not self._reap():
            if self._is_told:  # with everybody else, as at a shutdown: it stays to the end, unless it is killed
                self._is_told = False
                deaths.note_told_to_end(ward.folder, ward.run_id, ward.attempt, ward.process.pid)
            seconds = self.tick()
            waiting.poll(None if seconds is None else seconds * 1000)
            with contextlib.suppress(BlockingIOError):
                os.read(wake_read, 4096)
        self._follow()

    def _tell(self, *_: object) -> None:
        self._is_told = True

    def _reap(self) -> bool:
        """Wait for what has ended, adopted or not; says whether the run's process has."""
        ward = self._ward
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return self._death is not None
            if pid != ward.process.pid:
                continue
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            self._death = deaths.from_wait_status(
                ward.run_id, pid, status, max_rss_bytes=usage.ru_maxrss * 1024, ended_at_us=now_us(),
                out_of_memory=killed and self._oom.killed_since_last_look(pid),
            )
            self._record(self._death)

    def _record(self, death: deaths.Death) -> None:
        """Leave the record; where there is no room for one the host tries again, or this process if that is gone."""
        ward, host_listens = self._ward, True
        while True:
            try:
                deaths.write_exit(ward.folder, ward.attempt, death)
                is_recorded = True
            except OSError:
                is_recorded = False
            words = {"death": death._asdict(), "is_recorded": is_recorded}
            try:
                os.write(self._host, json.dumps(words).encode())
            except OSError:
                host_listens = False
            if is_recorded or host_listens:
                return
            time.sleep(RECORD_AGAIN_SECONDS)

    def _follow(self) -> None:
        """What became of the run decides what becomes of what it left: of one that ended by itself it may stay."""
        ward = self._ward
        is_alone = not _has_children()
        if is_alone and self._death is not None and self._death.exit_code is not None:
            return
        self.look_again()
        if not is_alone and (ward.was_cancelled or not ward.has_ended):
            self.kill_rest(ward)
        if ward.was_cancelled and not ward.has_ended:
            settle(ward)

    def terminate(self, ward: Ward) -> None:
        """See ``Guard``: all of it, also what is stopped."""
        found = self.find(ward)
        processes.send(found, signal.SIGTERM)
        processes.send(found, signal.SIGCONT)  # what is stopped hears nothing else

    def kill(self, ward: Ward) -> None:
        """See ``Guard``."""
        ward.say(f"run #{ward.run_id}: SIGKILL to its processes")
        # Nothing of it gets away: whoever loses its parent becomes this process's child.
        processes.send([ward.process.pid], signal.SIGKILL)
        self.kill_rest(ward)
        ward.asked_at = None

    def leader_of(self, ward: Ward) -> int | None:
        """See ``Guard``."""
        return ward.process.pid

    def family_of(self, ward: Ward) -> processes.Family | None:
        """See ``Guard``."""
        del ward
        return processes.Family(os.getpid())


class CompanionGuard(Guard):
    """Beside a process that a person started: a script, ``flowdeck run``. Nothing of the shell's is touched."""

    def __init__(self, process: judging.ProcessIdentity, heard: int, said: int, *, adopts: bool) -> None:
        super().__init__()
        self._process = process
        self._heard = heard
        """What the watched process says comes here."""
        self._said = said
        self._adopts = adopts
        """Whether the watched process keeps its orphans."""
        self._told = b""
        self._is_gone = False

    def watch(self) -> None:
        """Until the watched process has ended."""
        waiting = select.poll()
        waiting.register(self._heard, select.POLLIN)
        pidfd = self._open_pidfd()
        if pidfd is not None:
            waiting.register(pidfd, select.POLLIN)
        while not self._is_gone:
            seconds = self.tick()
            if pidfd is None:
                seconds = 0.1 if seconds is None else seconds
                self._is_gone = judging.judge(self._process, None).is_gone
            for descriptor, _ in waiting.poll(None if seconds is None else seconds * 1000):
                if descriptor == pidfd:
                    self._is_gone = True
                elif not self._hear():
                    waiting.unregister(descriptor)
        for ward in self.wards:
            self._follow(ward)

    def _open_pidfd(self) -> int | None:
        try:
            descriptor = processes.open_pidfd(self._process.pid, self._process.started_ticks)
        except OSError:
            return None  # this kernel has none: the process is looked for instead
        self._is_gone = descriptor is None
        return descriptor

    def _hear(self) -> bool:
        """What the watched process says: which run begins, which is over. False: it says nothing more."""
        data = os.read(self._heard, 65536)
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            self.obey(json.loads(line))
        return bool(data)

    def obey(self, message: dict[str, Any]) -> None:
        """``{"guard": 5, "attempt": 1, "folder": …, "since": …, "before": […]}`` or ``{"over": 5, "folder": …}``."""
        self.wards = [
            ward
            for ward in self.wards
            if (ward.folder, ward.run_id) != (message["folder"], message.get("over", message.get("guard")))
        ]
        if not self.wards:
            for eyes in self._eyes.values():
                eyes.close()
        if "over" in message:
            with contextlib.suppress(OSError):  # it is gone, or has not read for long
                os.write(self._said, b".")
        if "guard" in message:
            if not self.wards:
                self._look_at = time.monotonic() + FIRST_LOOK_SECONDS
            self.wards.append(
                Ward(
                    message["folder"], message["guard"], message["attempt"], self._process,
                    message["since"], tuple(message["before"]),
                )
            )
            if message["folder"] in self._eyes:
                self._eyes[message["folder"]].forget()

    def _others(self, ward: Ward) -> list[Ward]:
        return [other for other in self.wards if other is not ward and other.asked_at is None]

    def terminate(self, ward: Ward) -> None:
        """See ``Guard``: all of it, also what is stopped."""
        found = self.find(ward)
        if not self._others(ward):
            found.append(self._process.pid)
        processes.send(found, signal.SIGTERM)
        processes.send(found, signal.SIGCONT)

    def kill(self, ward: Ward) -> None:
        """See ``Guard``."""
        pid = self._process.pid
        if others := self._others(ward):
            ward.say(
                f"run #{ward.run_id} lives in one process with #{', #'.join(str(other.run_id) for other in others)}: "
                f"it is ended with force once that is over (process {pid})"
            )
            self.kill_rest(ward)
            return
        ward.say(f"run #{ward.run_id}: SIGKILL to its process {pid} and what that started")
        # Stopped it starts nothing more; what it had started is beneath it only as long as it exists.
        processes.send([pid], signal.SIGSTOP)
        self.kill_rest(ward)
        with contextlib.suppress(OSError):  # no room for a record: it ends all the same, and nobody saw how
            deaths.write_exit(
                ward.folder, ward.attempt,
                deaths.Death(ward.run_id, pid, None, signal.SIGKILL, False, False, None, now_us()),
            )  # fmt: skip
        if refused := processes.send([pid], signal.SIGKILL):
            ward.say(f"run #{ward.run_id}: {processes.named(refused)} is not this user's to end")
        elif pid == 1:
            ward.say(f"run #{ward.run_id}: its process is the first of its PID namespace, which the kernel lets "
                     "nobody in there end; end the container from outside, and start it with an init "
                     "(docker run --init)")

    def _follow(self, ward: Ward) -> None:
        """The process is gone: nothing of a cancelled run stays, and its end is recorded."""
        self.look_again()
        if ward.was_cancelled:
            self.kill_rest(ward)
            if not ward.has_ended:
                settle(ward)

    def leader_of(self, ward: Ward) -> int | None:
        """See ``Guard``."""
        del ward
        return None  # its group is the shell's, with whoever stands in the same pipeline

    def family_of(self, ward: Ward) -> processes.Family | None:
        """See ``Guard``."""
        if self._is_gone or not self._adopts:
            return None
        marks = tuple(other.mark for other in self.wards if other is not ward)
        return processes.Family(self._process.pid, ward.since_ticks, ward.before, marks)


# ------------------------------------------------------------------------------------------- becoming a guard


def wake_on_children() -> int:
    """A descriptor that becomes readable when a child has ended."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    return read_end


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def detach(*kept: int) -> None:
    """In the new process: a session of its own, nothing open but what is kept, deaf to what is meant for the run."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(int(name))
    processes.name_self(_NAME)


def end_with(guard: Callable[[], None], folder: str, run_id: int, attempt: int) -> NoReturn:
    """Be the guard, and end with it; what goes wrong in here stands in the run's log."""
    try:
        guard()
    except BaseException as error:  # noqa: BLE001 - the border of the process: nothing of it may run on as the parent
        tell(folder, run_id, attempt, f"the guard of run #{run_id} had to end: {describe_exception(error)}")
    finally:
        os._exit(0)
