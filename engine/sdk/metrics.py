"""``metric("rows", n)``: a number of the running task, kept over time beside its logs."""

from __future__ import annotations

from ...store.rows import MetricRow
from ...store.tables import metrics
from ..errors import UsageError
from ..running.calls.frame import require_frame
from ..states.state import storable
from ..system.clock import now_us


def metric(name: str, value: float) -> None:
    """Record ``value`` under ``name`` for the current task or flow run; raises MissingContextError outside one."""
    frame = require_frame("metric()")
    if not isinstance(name, str) or not name:
        raise UsageError(f"a metric's name must be a text, not {name!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UsageError(f"metric {name!r}: the value must be a number, not {value!r}") from None
    if number != number:
        raise UsageError(f"metric {name!r}: the value is not a number (NaN)")
    task_seq = frame.task.seq if frame.task is not None else None
    row = MetricRow(frame.run.id, task_seq, now_us(), storable(name), number)
    frame.run.session.telemetry.soon(lambda conn: metrics.append(conn, [row]))
