"""Door from authoring to running: what flows, tasks and transactions ask of whoever runs them.

Within a run the frame's host answers calls of tasks and flows, and nothing is imported. Else each protocol has one
player in ``running``, imported when it is first asked: writing a flow loads nothing that runs one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..context import AnyFrame
    from .flows import Flow
    from .tasks import Task
    from .transaction import ResultRecord, Transaction

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Calls(Protocol):
    """How code calls tasks and flows, wherever it runs: in the run's process (``lifecycle.calling``), where they run,
    or in a worker process, which has what may be called from there run in the run's process.

    Called by user code, on its own thread or in its own coroutine, with the frame whose calls these are. What cannot
    be had is refused by ``UsageError``.
    """

    def call(
        self, frame: Any, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """Run a task here and now; its value once its record is durable."""

    async def call_async(
        self, frame: Any, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """As ``call``, in the running event loop."""

    def iterate(self, frame: Any, task: Task[Any, Any], args: Args, kwargs: Kwargs, wait_for: Any) -> Any:
        """A generator over what a task's body yields, sync or async as the body is."""

    def submit(
        self, frame: Any, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """Start a task once everything it needs has ended; a future at once."""

    def map_over(
        self, frame: Any, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """One call per element; a list of futures in order."""

    def call_flow(
        self, frame: Any, flow: Flow[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """Run a subflow here and now."""

    async def call_flow_async(
        self, frame: Any, flow: Flow[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """As ``call_flow``, in the running event loop."""

    def iterate_flow(self, frame: Any, flow: Flow[Any, Any], args: Args, kwargs: Kwargs, wait_for: Any) -> Any:
        """A generator over what a subflow's body yields, sync or async as the body is."""


class Runs(Protocol):
    """Running a flow outside of any run: a root run of this process."""

    def run_here(self, flow: Flow[Any, Any], parameters: Kwargs, return_state: bool) -> Any:
        """To its end; its value or its state."""

    async def run_here_async(self, flow: Flow[Any, Any], parameters: Kwargs, return_state: bool) -> Any:
        """As ``run_here``, in the running event loop."""

    def iterate_here(self, flow: Flow[Any, Any], parameters: Kwargs) -> Iterator[Any]:
        """As ``run_here``, for a flow whose function yields: its items as they come."""

    def iterate_here_async(self, flow: Flow[Any, Any], parameters: Kwargs) -> AsyncIterator[Any]:
        """As ``iterate_here``, in the running event loop."""


class Blocks(Protocol):
    """What a transaction does to the store and to its tasks."""

    def read(self, block: Transaction) -> ResultRecord | None:
        """What its key stands for."""

    def commit(self, block: Transaction) -> bool:
        """Commit now; says whether it did."""

    def roll_back(self, block: Transaction) -> bool:
        """Roll back now; says whether it did."""

    def begin(self, block: Transaction) -> None:
        """Enter it: take its lock, look up its key."""

    def give_up(self, block: Transaction) -> None:
        """It could not be entered: what it had taken for that is given back."""

    async def begin_async(self, block: Transaction) -> None:
        """As ``begin``, in the running event loop."""

    def end(self, block: Transaction, error: BaseException | None) -> None:
        """Leave it: commit, or roll back after an error."""

    async def end_async(self, block: Transaction, error: BaseException | None) -> None:
        """As ``end``, in the running event loop."""


def calls_of(frame: AnyFrame) -> Calls:
    """Who answers the calls of the code that this frame belongs to: its host."""
    calls: Calls = frame.run.session.calls
    return calls


def runs() -> Runs:
    """Who makes a root run of a flow in this process."""
    from ..running.run_process import entry

    return entry


def blocks() -> Blocks:
    """Who begins and ends transactions."""
    from ..running.transactions import blocks as player

    return player
