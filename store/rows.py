"""Rows that travel: small frozen records read from the store, never ORM objects.

Field order is the column order of the statement beside the table (``RUN_COLUMNS`` and so on), so that
``RunRow._make(row)`` works. Times are integer UTC microseconds, durations microseconds, JSON columns are text.

Every process loads this module, so its annotations are not deferred: as texts each would be compiled at import, which
makes the classes of rows twice as dear.
"""

from typing import NamedTuple


class RunRow(NamedTuple):
    """One flow run."""

    id: int
    flow_name: str
    name: str
    deployment: str | None
    """Name of the deployment it was made from; None for a run started by a person from a file."""
    schedule_id: int | None
    due_at_us: int | None
    """The schedule tick it belongs to."""
    entrypoint: str | None
    """``/absolute/file.py:flow_name``, how a process can find the flow again; None when it cannot."""
    parameters: str
    """JSON object, secrets masked."""
    tags: str
    """JSON array of strings."""
    state_type: str
    state_name: str
    cause: str | None
    """Why it ended or waits, in words."""
    intent: str
    attempt: int
    """Starts at 1; grows with each retry, resume or crash recovery. The fencing token of every write."""
    crash_count: int
    created_at_us: int
    scheduled_at_us: int
    """When it is, or was, to start."""
    wake_at_us: int | None
    """While SCHEDULED: not to be claimed before this time."""
    started_at_us: int | None
    ended_at_us: int | None
    duration_us: int | None
    """Running time summed over attempts, by the monotonic clock; None until an attempt ended."""
    parent_run_id: int | None
    parent_seq: int | None
    root_id: int | None
    """The run whose process this run lives in; None when it is itself the root."""
    retry_of: int | None
    source_hash: str | None
    actor: str
    """Who made it: ``user@host via cli`` and the like."""
    result_preview: str | None
    working_folder: str | None = None
    """Where its first process stood when it began, and each later one goes back to; None before, and for subflows."""


class FlowRow(NamedTuple):
    """A flow that has been run or deployed."""

    name: str
    description: str | None
    created_at_us: int
    last_run_id: int | None
    """Its newest run; None when it never ran."""


class TaskRow(NamedTuple):
    """One task run, or a subflow's place in its parent (``kind == "subflow"``)."""

    run_id: int
    seq: int
    """Number within the run, from 1; the task run is shown as ``run/seq``."""
    key: str
    """The task's name: with scope_seq and call_index its identity across attempts of the run."""
    scope_seq: int
    """0 when the flow function made the call, else the seq of the task that did."""
    call_index: int
    """How many calls of this key in this scope came before."""
    map_group: int | None
    """Call index of the first member of its ``.map`` call; None when it was not mapped."""
    map_index: int | None
    name: str
    kind: str
    child_run_id: int | None
    state_type: str
    state_name: str
    cause: str | None
    attempt: int
    """Attempts of this task, from 1; grows with each retry."""
    run_attempt: int
    """The run's attempt that wrote this row last."""
    created_at_us: int
    started_at_us: int | None
    ended_at_us: int | None
    duration_us: int | None
    cpu_us: int | None
    peak_rss_bytes: int | None
    tags: str
    inputs_hash: str | None
    wake_at_us: int | None
    code_hash: str | None = None
    """Names the code of the task's function; None where it cannot be known."""


class CallRow(NamedTuple):
    """What of a task run says how it stands among the others of its run tree."""

    run_id: int
    seq: int
    key: str
    scope_seq: int
    map_group: int | None
    child_run_id: int | None
    state_type: str
    run_attempt: int


class EdgeRow(NamedTuple):
    """Task ``(from_run_id, from_seq)`` feeds, or is awaited by, task ``(run_id, to_seq)``."""

    run_id: int
    to_seq: int
    from_run_id: int
    from_seq: int
    kind: str
    """``data`` or ``wait``."""


class EventRow(NamedTuple):
    """One line of the audit log, the change feed and the export outbox at once."""

    id: int
    at_us: int
    kind: str
    """``state`` (a transition), ``request`` (somebody asked), ``schedule``, ``deployment``, ``daemon``, ``limit``,
    ``variable``, ``input``, ``user`` (users' code said it)."""
    run_id: int | None
    task_seq: int | None
    attempt: int | None
    from_type: str | None
    from_name: str | None
    to_type: str | None
    to_name: str | None
    actor: str
    message: str | None
    data: str | None
    """JSON object."""


class LogRow(NamedTuple):
    """One stored line of output."""

    root_id: int
    line: int
    """Dense from 0 within the root run."""
    run_id: int
    task_seq: int | None
    attempt: int
    at_us: int
    level: int
    """Python logging levels; standard output is 20, standard error 30."""
    logger: str
    stream: str
    """``log``, ``stdout`` or ``stderr``."""
    message: str


class LogMatches(NamedTuple):
    """One page of a search through log lines."""

    rows: list[LogRow]
    next_line: int
    """Where to go on searching."""
    done: bool
    """Whether the search has seen every line stored when it ran."""


class MetricRow(NamedTuple):
    """One measured value."""

    run_id: int
    task_seq: int | None
    at_us: int
    name: str
    value: float


class ResultRow(NamedTuple):
    """A journalled result. Only the run's own process decodes ``data``; everybody else shows ``preview``."""

    run_id: int
    seq: int
    codec: str
    """``json`` or ``cloudpickle``; ``none`` when the value could not be journalled."""
    checksum: str
    size_bytes: int
    data: bytes | None
    path: str | None
    """Relative to the store folder, when the value is too large to stand in the row."""
    preview: str


class CacheRow(NamedTuple):
    """A result that later calls with the same cache key return."""

    key: str
    run_id: int | None
    """The run that made it, and the task of it."""
    task_seq: int | None
    codec: str
    checksum: str
    size_bytes: int
    data: bytes | None
    path: str | None
    """As in ``ResultRow``; the file is the entry's own."""
    preview: str
    created_at_us: int
    expires_at_us: int | None
    """From then on it is not used; None for never."""


class CacheLockRow(NamedTuple):
    """The live process that computes what a cache key stands for; others wait for it."""

    key: str
    run_id: int | None
    task_seq: int | None
    host: str
    boot_id: str
    pid: int
    pid_started_ticks: int
    acquired_at_us: int
    pid_namespace: str | None = None


class StagedRow(NamedTuple):
    """What a task that completed inside a transaction holds for its hooks, and which of them are done."""

    run_id: int
    task_seq: int
    transaction_name: str
    held: bytes | None
    """Pickled by the run's process, and read by it alone."""
    commit_hooks_done: int
    rollback_place: int | None
    """Its place in a rollback under way; None when there is none."""
    rollback_hooks_done: int
    cause: str | None
    """Why it is rolled back."""


class ScheduleRow(NamedTuple):
    """When a deployment runs."""

    id: int
    deployment: str
    slug: str
    kind: str
    """``cron``, ``interval``, ``rrule``, ``dates`` or ``composite``."""
    spec: str
    """JSON object, as ``engine.schedules`` wrote it."""
    parameters: str
    catchup: str
    catchup_window_seconds: float
    overlap: str
    active: bool
    next_due_at_us: int | None
    last_due_at_us: int | None


class DeploymentRow(NamedTuple):
    """A flow the daemon can run by name."""

    name: str
    flow_name: str
    path: str
    entrypoint: str
    description: str | None
    parameters: str
    parameters_schema: str
    tags: str
    source_hash: str
    updated_at_us: int
    concurrency_limit: int | None
    """How many of its runs may run at once; None for any number."""
    collision_strategy: str | None
    """What becomes of a run above the limit: ``ENQUEUE`` (default) or ``CANCEL_NEW``."""


class FlowFileRow(NamedTuple):
    """A flow file the daemon watches, and whether it could be imported."""

    path: str
    source_hash: str
    error: str | None
    """One line naming the file, the place and the mistake; None when the file loaded."""
    traceback: str | None
    loaded_at_us: int


class ArtifactRow(NamedTuple):
    """Something made for people to read."""

    id: int
    run_id: int | None
    """None for one that was made outside of runs."""
    task_seq: int | None
    key: str
    kind: str
    """``markdown``, ``table``, ``link``, ``image`` or ``progress``."""
    description: str | None
    data: str
    created_at_us: int


class LeaseRow(NamedTuple):
    """The live process that owns a run, or the daemon."""

    owner: str
    """``run/42`` or ``daemon``."""
    run_id: int | None
    attempt: int | None
    host: str
    boot_id: str
    pid: int
    pid_started_ticks: int
    """Field 22 of /proc/PID/stat: with boot_id and pid it names one process for ever."""
    process_group: int | None
    actor: str
    acquired_at_us: int
    info: str | None
    """JSON object: for the daemon its paths and version; for a run whether the daemon may resume it."""
    pid_namespace: str | None = None
    """In which the pid means this process; None in leases of versions that did not write it."""
    uid: int | None = None
    """The kernel's effective user of it."""
    store: str | None = None
    """Names the store it works on: a copy of that store has another name."""


class InputRow(NamedTuple):
    """What a run asked for, what came, a message sent to it, or until when it sleeps."""

    id: int
    run_id: int
    key: str
    """Of a request, its response and a wait: the identity of the call within the run. Of a message: its kind."""
    kind: str
    """``request``, ``response``, ``message`` or ``wait``."""
    json_schema: str | None
    """What an answer must look like; None when there is nothing to say but "go on"."""
    description: str | None
    """Markdown for the person who is asked; of a response that nobody gave, why there is none."""
    value: str | None
    """JSON."""
    sender: str
    created_at_us: int
    until_us: int | None
    """Until when a request may be answered, or a wait lasts; None for ever."""
    taken_at_us: int | None
    """When the run took a message; of a request, when the attempt that made it was over."""
    taken_by: str | None
    """The call that took a message, so that replay gives it the same ones."""


class LimitRow(NamedTuple):
    """How many slots there are of something."""

    name: str
    """``tag:NAME`` is for tasks with a tag, ``flow:NAME`` for runs of a deployment, any other for ``concurrency``."""
    slots: int
    slot_decay_per_second: float | None
    """How many slots taken by ``rate_limit`` come back each second; None: the limit is none of rates."""
    active: bool
    """False while it is paused: nobody waits for it and nobody is counted."""
    used: float
    """Slots that ``rate_limit`` had taken at ``used_at_us``."""
    used_at_us: int
    created_at_us: int
    updated_at_us: int
    actor: str


class SlotRow(NamedTuple):
    """Slots of one limit that a process holds or waits for. The rows of one call have the same ``ask_id``."""

    id: int
    ask_id: int
    limit_name: str
    kind: str
    """``hold`` until they are given back, ``rate``: counted in the limit's ``used`` once granted."""
    occupy: int
    run_id: int | None
    task_seq: int | None
    host: str
    boot_id: str
    pid: int
    pid_started_ticks: int
    asked_at_us: int
    held_at_us: int | None
    """None while it waits."""
    actor: str
    within: str | None
    """The ``ask_id`` of each request around this one, with blanks between: they are held until this one has ended."""
    pid_namespace: str | None = None


class VariableRow(NamedTuple):
    """A named JSON value."""

    name: str
    value: str
    tags: str
    """JSON array."""
    created_at_us: int
    updated_at_us: int
    actor: str
    """Who changed it last."""
