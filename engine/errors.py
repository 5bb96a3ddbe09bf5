"""The engine's branch of the error tree.

FlowdeckError
├── NotAllowed                 not possible in this state, or not permitted            (exit code 4)
│   ├── SecretExists           a secret that was not to be overwritten
│   └── VariableExists         a variable that was not to be overwritten
├── NotFound                   no such run, flow, task or schedule                     (exit code 3)
├── UsageError                 the caller's words are off                              (exit code 2)
│   ├── OptionError            an option of a decorator that cannot be what it was given
│   ├── ParameterError         wrong, missing or unknown flow parameters
│   ├── ScheduleError          a schedule that cannot be read or never fires
│   ├── FlowFileError          a flow file that cannot be imported, or holds no such flow
│   ├── InputError             an answer or message that is not what was asked for
│   ├── MappingLengthMismatch  mapped arguments of different lengths
│   └── MappingMissingIterable nothing to map over
├── MissingContextError        called outside a run
├── ConcurrencySlotAcquisitionError        slots that can never be had: no such limit, or too small a one
├── AcquireConcurrencySlotTimeoutError     no slot came free in time
├── PauseTimedOut              nobody answered or resumed a run in time
├── RunFailed                  a run or task whose result was asked for has no result
│   ├── RunCrashed
│   │   └── WorkerDied         the process a task ran in ended before the task did
│   ├── UpstreamFailed         a task that could not start: what it needs failed
│   ├── RunTimedOut
│   └── CommandFailed          a shell command that could not start, or ended with another code than 0
│       └── CommandTimedOut
└── ResultUnreadable           a journalled result that does not decode
Cancelled (BaseException)      raised inside user code when its run is cancelled; a state, too: see states.state
Suspended (BaseException)      raised inside user code when its process leaves a run that goes on later
"""

from __future__ import annotations

from typing import Any

from ..store.errors import FlowdeckError as FlowdeckError
from ..store.errors import StaleState as StaleState
from ..store.errors import StoreCorrupt as StoreCorrupt
from ..store.errors import StoreError as StoreError
from ..store.errors import StoreFull as StoreFull
from ..store.errors import StoreLocked as StoreLocked
from ..store.errors import StoreMissing as StoreMissing
from ..store.errors import StoreNewer as StoreNewer
from ..store.errors import StoreReadOnly as StoreReadOnly
from ..store.errors import StoreUnsupported as StoreUnsupported
from ..store.errors import StoreUntrusted as StoreUntrusted


class NotAllowed(FlowdeckError):
    """The request is not possible in the state the thing is in."""

    exit_code = 4


class NotFound(FlowdeckError):
    """No such run, flow, task or schedule."""

    exit_code = 3


class SecretExists(NotAllowed, ValueError):
    """A secret is there already and was not to be overwritten."""


class VariableExists(NotAllowed, ValueError):
    """A variable is there already and was not to be overwritten."""


class UsageError(FlowdeckError):
    """The caller's words are off."""

    exit_code = 2


class OptionError(UsageError, TypeError, ValueError):
    """An option of ``@flow`` or ``@task`` that cannot be what it was given."""


class ParameterError(UsageError, TypeError, ValueError):
    """Wrong, missing or unknown flow parameters."""


class ScheduleError(UsageError, ValueError):
    """A schedule that cannot be read or never fires."""


class FlowFileError(UsageError):
    """A flow file that cannot be imported, or that holds no such flow."""


class InputError(UsageError, ValueError):
    """An answer or a message that is not what was asked for; names the field."""


class MappingLengthMismatch(UsageError):
    """Mapped arguments of different lengths."""


class MappingMissingIterable(UsageError):
    """``map`` was called without anything to map over."""


class MissingContextError(FlowdeckError, RuntimeError):
    """Something that belongs to a run was asked for outside one."""


class ConcurrencySlotAcquisitionError(FlowdeckError):
    """Slots were asked for that can never be had: the limit is missing (``strict``), too small, or 0."""


class AcquireConcurrencySlotTimeoutError(FlowdeckError, TimeoutError):
    """No slot came free within ``timeout_seconds``."""


class PauseTimedOut(FlowdeckError, TimeoutError):
    """A paused or suspended run was not answered or resumed in time."""


FlowPauseTimeout = PauseTimedOut
"""Prefect's name."""


class RunFailed(FlowdeckError):
    """The result of a run or task that did not complete was asked for."""


class RunCrashed(RunFailed):
    """The run or task ended by a signal, lack of memory or a reboot."""


class WorkerDied(RunCrashed):
    """The process a task ran in ended before the task did: a signal, lack of memory, ``os._exit``."""


class UpstreamFailed(RunFailed):
    """A task could not start because something it needs did not complete."""


class RunTimedOut(RunFailed, TimeoutError):
    """A flow or task ran longer than its ``timeout_seconds``."""


class CommandFailed(RunFailed):
    """A shell command could not start or ended with another code than 0; ``result`` is what it said, if it ran."""

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result)


class CommandTimedOut(CommandFailed, TimeoutError):
    """A shell command took longer than its ``timeout``."""


class ResultUnreadable(FlowdeckError):
    """A journalled result does not decode; the task runs again."""


class Suspended(BaseException):
    """Raised inside user code when its process leaves a run that goes on later, by replay.

    ``finally`` blocks and context managers end as they should; nothing has failed and nothing was cancelled.
    """


for _kind in tuple(vars().values()):
    if isinstance(_kind, type) and _kind.__module__ == __name__ and _kind is not Suspended:
        _kind.__module__ = "flowdeck"  # what is stored names it there, wherever this file stands
