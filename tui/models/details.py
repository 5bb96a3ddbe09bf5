"""The text of a run's details tab: parameters, result, process, artifacts, metrics. Sanitised, styled lines. Pure."""

from __future__ import annotations

import json
from collections import defaultdict

from rich.style import Style

from ...store.rows import ArtifactRow, LeaseRow, MetricRow, RunRow
from ..look import cells, theme
from ..look.spans import Spans
from ..text import times
from ..text.artifact_text import plain_lines
from ..text.sanitize import clean_lines
from ..text.waiting import Daemon, why
from .news import Details

_LABEL_WIDTH = 14
_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_CELLS = 32


def lines_of(run: RunRow, tries: int, details: Details | None, daemon: Daemon, now_us: int) -> list[Spans]:
    """Everything about a run, top to bottom."""
    lines: list[Spans] = [(), *_about(run, tries, daemon, now_us)]
    lines += _title("Parameters") + _json_lines(run.parameters)
    if run.result_preview is not None:
        lines += _title("Result") + _block(run.result_preview)
    if details is not None:
        lines += _process(details.lease, now_us)
        lines += _metrics(details.metrics)
        for artifact in details.artifacts:
            lines += _artifact(artifact)
    return [*lines, ()]


def _about(run: RunRow, tries: int, daemon: Daemon, now_us: int) -> list[Spans]:
    palette = theme.palette()
    look = palette.look(run.state_type, run.state_name)
    lines = [
        _field("State", f"{look.glyph} {run.state_name}", look.style),
        _field("Why", why(run, now_us, daemon)),
        _field("Flow", run.flow_name),
        _field("Deployment", run.deployment),
        _field("Tries", f"{tries}" + (f", {run.crash_count} crashes" if run.crash_count else "")),
        _field("Asked for", None if run.intent == "none" else run.intent),
        _field("Created", f"{times.stamp(run.created_at_us, now_us, milliseconds=True)} by {run.actor}"),
        _field("Scheduled", times.stamp(run.scheduled_at_us, now_us, milliseconds=True)),
        _field("Started", times.stamp(run.started_at_us, now_us, milliseconds=True) if run.started_at_us else None),
        _field("Ended", times.stamp(run.ended_at_us, now_us, milliseconds=True) if run.ended_at_us else None),
        _field("Zone", times.zone(now_us)),
        _field("Ran for", times.duration(run.duration_us) if run.duration_us is not None else None),
        _field("Subflow of", f"#{run.parent_run_id}" if run.parent_run_id else None),
        _field("Retry of", f"#{run.retry_of}" if run.retry_of else None),
        _field("Tags", ", ".join(cells.tags(run.tags)) or None),
        _field("File", run.entrypoint),
    ]
    return [line for line in lines if line]


def _field(label: str, value: str | None, style: Style | None = None) -> Spans:
    if not value:
        return ()
    palette = theme.palette()
    return ((f"  {label:<{_LABEL_WIDTH}}", palette.dim), (cells.safe(value), style or palette.text))


def _title(text: str) -> list[Spans]:
    return [(), ((f"  {text}", theme.palette().accent),)]


def _block(text: str) -> list[Spans]:
    palette = theme.palette()
    return [((f"  {cells.safe(line)}", palette.text),) for line in clean_lines(text, max_lines=2_000)]


def _json_lines(text: str) -> list[Spans]:
    palette = theme.palette()
    try:
        values = json.loads(text)
    except ValueError:
        return _block(text)
    if not isinstance(values, dict):
        return _block(text)
    if not values:
        return [(("  none", palette.faint),)]
    width = min(24, max(len(str(name)) for name in values) + 2)
    return [
        (
            (f"  {cells.safe(str(name)):<{max(width, _LABEL_WIDTH)}}", palette.dim),
            (cells.safe(json.dumps(value, ensure_ascii=False)), palette.text),
        )
        for name, value in values.items()
    ]


def _process(lease: LeaseRow | None, now_us: int) -> list[Spans]:
    if lease is None:
        return []
    lines = [
        *_title("Process"),
        _field("Pid", f"{lease.pid} on {lease.host}"),
        _field("Group", str(lease.process_group) if lease.process_group else None),
        _field("Since", f"{times.stamp(lease.acquired_at_us, now_us, milliseconds=True)} by {lease.actor}"),
    ]
    return [line for at, line in enumerate(lines) if line or at == 0]


def _metrics(rows: tuple[MetricRow, ...]) -> list[Spans]:
    if not rows:
        return []
    palette = theme.palette()
    series: dict[tuple[int | None, str], list[MetricRow]] = defaultdict(list)
    for row in rows:
        series[(row.task_seq, row.name)].append(row)
    lines = _title("Metrics")
    for (seq, name), points in series.items():
        points.sort(key=lambda point: point.at_us)
        values = [point.value for point in points]
        where = f" /{seq}" if seq is not None else ""
        lines.append(
            (
                (f"  {cells.safe(name)}{where}".ljust(_LABEL_WIDTH + 12)[: _LABEL_WIDTH + 24] + " ", palette.dim),
                (f"{values[-1]:>12,.6g}  ", palette.text),
                (spark(values), palette.accent),
                (f"  {min(values):,.6g} … {max(values):,.6g}" if len(values) > 1 else "", palette.faint),
            )
        )
    return lines


def spark(values: list[float]) -> str:
    """The last values as a line of blocks; as figures from 1 to 8 where there are no blocks."""
    shown = values[-_SPARK_CELLS:]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    steps = [round((value - low) / (high - low) * 7) if high > low else 0 for value in shown]
    marks = "12345678" if theme.palette().ascii else _BLOCKS
    return "".join(marks[step] for step in steps)


def _artifact(artifact: ArtifactRow) -> list[Spans]:
    palette = theme.palette()
    head = f"Artifact {cells.safe(artifact.key)}"
    about = f"  {artifact.kind}{', ' + cells.safe(artifact.description) if artifact.description else ''}"
    title: list[Spans] = [(), ((f"  {head}", palette.accent), (about, palette.faint))]
    if artifact.kind == "markdown":
        return title + _markdown(artifact.data)
    lines = plain_lines(artifact, ascii_only=palette.ascii)
    style = palette.accent if artifact.kind == "progress" else palette.text
    return title + [((f"  {cells.safe(line)}", style),) for line in lines]


def _markdown(text: str) -> list[Spans]:
    """Markdown as text: headings and table heads stand out, nothing else is interpreted."""
    palette = theme.palette()
    lines: list[Spans] = []
    for line in clean_lines(text, max_lines=2_000):
        shown = f"  {cells.safe(line)}"
        if line.startswith("#"):
            lines.append(((shown.replace("#", "").replace("   ", "  ", 1), palette.strong),))
        elif line.startswith(("|--", "|:-", "---")):
            lines.append(((shown, palette.faint),))
        else:
            lines.append(((shown, palette.text),))
    return lines

