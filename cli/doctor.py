"""``doctor``: is the store sound, is somebody looking after it, can its flow files be read? Findings with remedies."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from ..store.errors import StoreError
from .opening import daemon_of, folder_of, store_exists
from .output import Output, one_line

if TYPE_CHECKING:
    from ..store.doctor import Finding

_MARKS: Final = {"ok": ("✓", "C", "green"), "warn": ("!", "!", "yellow"), "bad": ("✗", "F", "red")}


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """``doctor`` takes no arguments of its own."""
    parser.set_defaults(handler=examine_store)


def examine_store(args: argparse.Namespace, out: Output) -> int:
    """Print the findings; 5 when one of them makes the store unusable, 1 when another is bad."""
    folder = folder_of(args)
    if not store_exists(folder):
        if out.as_json:
            out.json_array([])
        out.say(f"no store at {folder} yet; the first run makes it")
        return 0
    from ..store.doctor import examine, is_older

    findings = list(examine(folder))
    if not is_older(findings) and not any(finding.level == "bad" for finding in findings):
        findings += _about_the_service(args)
    if out.as_json:
        out.json_array(map(_finding_shape, findings))
    else:
        out.line(out.paint(f"store {folder}", "bold"))
        for finding in findings:
            _print(finding, out)
    bad = {finding.subject for finding in findings if finding.level == "bad"}
    return StoreError.exit_code if bad - {"daemon"} else 1 if bad else 0


def _about_the_service(args: argparse.Namespace) -> list[Finding]:
    """What keeps scheduled work from happening: a stopped or missing daemon, flow files it could not read."""
    from ..store.doctor import Finding
    from ..store.reader import Reader

    with Reader(folder_of(args)) as reader:
        daemon = daemon_of(reader)
        found = [
            Finding("warn", "flow file", f"{problem.path}: {problem.error}", "mend the file; the daemon reads it anew")
            for problem in reader.problems()
        ]
        if daemon.state == "frozen":
            found.append(Finding("bad", "daemon", f"process {daemon.pid} is stopped: nothing starts",
                                 f"let it go on: kill -CONT {daemon.pid}"))
        elif daemon.state != "alive" and any(schedule.active for schedule in reader.schedules()):
            found.append(Finding("warn", "schedules", "active, but no daemon is running", "`flowdeck daemon PATH…`"))
    return found


def _finding_shape(finding: Finding) -> dict[str, Any]:
    return {"level": finding.level, "subject": finding.subject, "text": finding.text, "remedy": finding.remedy}


def _print(finding: Finding, out: Output) -> None:
    unicode_mark, plain_mark, style = _MARKS[finding.level]
    mark = out.paint(unicode_mark if out.unicode else plain_mark, style)
    out.line(f"{mark} {finding.subject:<14} {one_line(finding.text)}")
    if finding.remedy and finding.level != "ok":
        out.line(f"  {'':<14} {out.paint('→ ' if out.unicode else '-> ', style)}{one_line(finding.remedy)}")
