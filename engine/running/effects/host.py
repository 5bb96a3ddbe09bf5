"""Who performs user code, and whose it is: the protocols by which effects, pool and callers know their run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ...authoring.flows import Flow
    from ...authoring.tasks import Task
    from ..calls.frame import Frame

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Calls(Protocol):
    """How code calls tasks and flows, wherever it runs: in the run's process (``lifecycle.calling``), where they run,
    or in a worker process, which has what may be called from there run in the run's process.

    Called by user code, on its own thread or in its own coroutine. What cannot be had is refused by ``UsageError``.
    """

    def call(
        self, frame: Frame, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """Run a task here and now; its value once its record is durable."""

    async def call_async(
        self, frame: Frame, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """As ``call``, in the running event loop."""

    def iterate(self, frame: Frame, task: Task[Any, Any], args: Args, kwargs: Kwargs, wait_for: Any) -> Any:
        """A generator over what a task's body yields, sync or async as the body is."""

    def submit(
        self, frame: Frame, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """Start a task once everything it needs has ended; a future at once."""

    def map_over(
        self, frame: Frame, task: Task[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """One call per element; a list of futures in order."""

    def call_flow(
        self, frame: Frame, flow: Flow[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """Run a subflow here and now."""

    async def call_flow_async(
        self, frame: Frame, flow: Flow[Any, Any], args: Args, kwargs: Kwargs, return_state: bool, wait_for: Any
    ) -> Any:
        """As ``call_flow``, in the running event loop."""

    def iterate_flow(self, frame: Frame, flow: Flow[Any, Any], args: Args, kwargs: Kwargs, wait_for: Any) -> Any:
        """A generator over what a subflow's body yields, sync or async as the body is."""
