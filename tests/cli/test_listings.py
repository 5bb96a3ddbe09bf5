"""What the listings print, for people and for programs, with the shapes and exit codes of docs/design.md, section 7."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flowdeck.cli
import pytest
from flowdeck.cli.output import Output
from flowdeck.cli.table import RESET, STYLES, Cell, Column
from flowdeck.engine.secrets.masking import conceal

from .conftest import FLOWDECK, Cli

pytestmark = pytest.mark.xdist_group("seeded")

RUN_KEYS = [
    "id", "flow", "name", "state", "state_name", "attempt", "intent", "scheduled_at", "created_at", "started_at",
    "ended_at", "duration_seconds", "cause", "tags", "parent",
]  # fmt: skip
TASK_KEYS = [
    "seq", "key", "index", "name", "state", "state_name", "attempt", "started_at", "ended_at", "duration_seconds",
    "upstream", "cause",
]  # fmt: skip
EVENT_KEYS = ["id", "at", "run", "task", "kind", "from", "to", "actor", "message"]
LOG_KEYS = ["at", "run", "task", "level", "logger", "stream", "message"]
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ls_as_json_has_the_promised_shape(seeded: Cli) -> None:
    """An array, newest first, every promised key, times in ISO 8601 UTC, durations in seconds."""
    runs = parsed(seeded("ls", "--json"))
    assert [run["id"] for run in runs] == [2, 1]
    failed, completed = runs
    assert set(RUN_KEYS) <= set(failed)
    assert (completed["flow"], completed["state"], completed["state_name"]) == ("etl", "COMPLETED", "Completed")
    assert (failed["state"], failed["attempt"], failed["intent"], failed["parent"]) == ("FAILED", 1, "none", None)
    assert "no rows" in failed["cause"]
    assert completed["tags"] == ["nightly"]
    for key in ("scheduled_at", "created_at", "started_at", "ended_at"):
        assert ISO.fullmatch(completed[key])
    assert 0 < completed["duration_seconds"] < 20


def test_options_stand_before_or_after_the_command(seeded: Cli, tmp_path: Path) -> None:
    """``--json`` and ``--store`` mean the same in both places; the later ``--store`` wins over the environment."""
    assert parsed(seeded("--json", "ls")) == parsed(seeded("ls", "--json"))
    assert parsed(seeded("ls", "--json", "--store", str(tmp_path / "other"))) == []
    assert parsed(seeded("--store", str(tmp_path / "other"), "ls", "--json")) == []


def test_ls_filters(seeded: Cli) -> None:
    """By flow, by a state's type or name, by text; a word that is no state is a usage mistake."""
    assert [run["id"] for run in parsed(seeded("ls", "--json", "--flow", "etl"))] == [1]
    assert [run["id"] for run in parsed(seeded("ls", "--json", "--state", "failed"))] == [2]
    assert [run["id"] for run in parsed(seeded("ls", "--json", "--state", "completed,late"))] == [1]
    assert [run["id"] for run in parsed(seeded("ls", "--json", "--search", "no rows"))] == [2]
    assert [run["id"] for run in parsed(seeded("ls", "--json", "-n", "1"))] == [2]
    assert seeded("ls", "--state", "sleeping").returncode == 2


def test_an_empty_store_shows_the_two_commands_that_fill_it(cli: Cli) -> None:
    """On standard error, with exit code 0; programs get an empty array; nothing is made on disk."""
    done = cli("ls")
    assert (done.returncode, done.stdout) == (0, "")
    assert "flowdeck demo" in done.stderr
    assert "flowdeck run FILE" in done.stderr
    for command in ("ls", "events", "flows", "schedules", "doctor"):
        assert parsed(cli(command, "--json")) == []
    assert not cli.store.exists()


def test_show_as_json_adds_parameters_and_tasks(seeded: Cli) -> None:
    """Tasks in order, each with its key, index and upstream seqs."""
    run = parsed(seeded("show", "1", "--json"))
    assert set(RUN_KEYS) <= set(run)
    assert run["parameters"] == {"n": 2, "day": "2026-01-01", "city": "Oslo"}
    tasks = run["tasks"]
    assert all(set(TASK_KEYS) <= set(task) for task in tasks)
    assert [(task["seq"], task["key"], task["index"]) for task in tasks] == [
        (1, "extract", 0), (2, "double", 0), (3, "double", 1),
    ]  # fmt: skip
    assert {task["state"] for task in tasks} == {"COMPLETED"}
    assert tasks[0]["upstream"] == []
    assert all(upstream < task["seq"] for task in tasks for upstream in task["upstream"])


@pytest.mark.parametrize("ref", ["2", "#2", "@last", "@failed"])
def test_a_run_is_found_by_all_its_names(seeded: Cli, ref: str) -> None:
    """Number, #number, @last, @failed; its own name, too."""
    run = parsed(seeded("show", ref, "--json"))
    assert run["id"] == 2
    assert parsed(seeded("show", run["name"], "--json"))["id"] == 2


@pytest.mark.parametrize("ref", ["1/3", "1/double[1]", "#1/double[1]"])
def test_a_task_is_found_by_seq_and_by_key(seeded: Cli, ref: str) -> None:
    """``show`` of a task has that task only."""
    assert [task["seq"] for task in parsed(seeded("show", ref, "--json"))["tasks"]] == [3]
    done = seeded("show", ref)
    assert done.returncode == 0
    assert "double[1]" in done.stdout


def test_show_for_people_is_a_tree_with_the_cause(seeded: Cli) -> None:
    """Data on standard output, the hint to the log on standard error."""
    done = seeded("show", "2")
    assert "├─ extract" in done.stdout
    assert "└─ boom" in done.stdout
    assert "ValueError: no rows" in done.stdout
    assert "flowdeck logs 2" in done.stderr
    assert "flowdeck logs" not in done.stdout


def test_events_have_the_promised_shape_in_order(seeded: Cli) -> None:
    """Every transition of the run and its tasks, with who made it."""
    events = parsed(seeded("events", "--json", "--run", "1"))
    assert all(set(EVENT_KEYS) <= set(event) for event in events)
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    of_run = [(event["from"], event["to"]) for event in events if event["task"] is None]
    assert of_run == [(None, "PENDING"), ("PENDING", "RUNNING"), ("RUNNING", "COMPLETED")]
    assert events[0]["actor"].endswith("via cli")
    assert {event["task"] for event in events} == {None, 1, 2, 3}
    assert [event["id"] for event in parsed(seeded("events", "--json", "-n", "3"))] == [
        event["id"] for event in parsed(seeded("events", "--json"))[-3:]
    ]


def test_logs_have_the_promised_shape_and_filters(seeded: Cli) -> None:
    """Lines in order; by task key, by task and index, by level, by pattern, the last so many."""
    lines = parsed(seeded("logs", "1", "--json"))
    assert all(set(LOG_KEYS) <= set(line) for line in lines)
    assert lines[0]["message"] == "extracting 2"
    assert (lines[0]["task"], lines[0]["level"], lines[0]["stream"]) == (1, "INFO", "log")
    by_task = parsed(seeded("logs", "1", "--json", "--task", "double"))
    assert sorted(line["message"] for line in by_task) == ["doubling 0", "doubling 1"]
    assert parsed(seeded("logs", "1/double[1]", "--json")) == parsed(seeded("logs", "1", "--task", "3", "--json"))
    assert [line["message"] for line in parsed(seeded("logs", "1", "--task", "double[1]", "--json"))] == ["doubling 1"]
    assert {line["level"] for line in parsed(seeded("logs", "2", "--level", "error", "--json"))} == {"ERROR"}
    assert len(parsed(seeded("logs", "1", "--grep", r"doubling \d", "--json"))) == 2
    assert parsed(seeded("logs", "1", "-n", "1", "--json")) == lines[-1:]
    assert parsed(seeded("logs", "1", "-n", "0", "--json")) == []


def test_followed_logs_of_an_ended_run_end(seeded: Cli) -> None:
    """One JSON object a line, and no waiting for what cannot come."""
    done = seeded("logs", "1", "-f", "--json", timeout=10)
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == parsed(seeded("logs", "1", "--json"))


@pytest.mark.parametrize(("words", "code", "said"), [
    (("show", "99"), 3, "no run '99'"), (("show", "1/99"), 3, "no task '99'"), (("logs", "nobody"), 3, "no run"),
    (("events", "--run", "99"), 3, "no run"), (("cancel", "99"), 3, "no run"), (("submit", "nothing"), 3, "no flow"),
    (("logs", "1", "--grep", "("), 2, "regular expression"), (("logs", "1", "--level", "loud"), 2, "no level"),
    (("logs", "1", "--task", "nope"), 3, "no task"), (("lss",), 2, "did you mean `flowdeck ls`"), (("show",), 2, "RUN"),
    (("ls", "--frobnicate"), 2, "flowdeck ls --help"), (("ls", "-n", "x"), 2, "'x'"), ((), 2, "needs a terminal"),
    (("tui",), 2, "needs a terminal"), (("up",), 2, "needs a terminal"), (("cancel", "1"), 4, "Completed"),
    (("pause", "1"), 4, "Completed"), (("daemon", "/no/such/path"), 3, "/no/such/path"),
])  # fmt: skip
def test_mistakes_are_one_clear_line_and_the_right_exit_code(
    seeded: Cli, words: tuple[str, ...], code: int, said: str
) -> None:
    """No traceback, nothing on standard output, and what to do instead."""
    done = seeded(*words)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("flowdeck: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("command", [("ls",), ("show", "1"), ("run", "flows.py:etl"), ("events",), ("retry", "1")])
def test_an_unusable_store_is_exit_code_5(cli: Cli, command: tuple[str, ...]) -> None:
    """A file that is no database is left as it is; the line names it."""
    cli.store.mkdir()
    (cli.store / "state.db").write_bytes(b"this is no database, but long enough to look like one" * 40)
    done = cli(*command)
    assert done.returncode == 5, done.stderr
    assert "state.db" in done.stderr
    assert "Traceback" not in done.stderr
    assert (cli.store / "state.db").read_bytes().startswith(b"this is no database")


def test_a_sound_store_passes_the_doctor_and_a_broken_one_does_not(seeded: Cli, tmp_path: Path) -> None:
    """Findings as an array; exit code 1 when one is bad."""
    findings = parsed(seeded("doctor", "--json"))
    assert {finding["level"] for finding in findings} <= {"ok", "warn"}
    assert set(findings[0]) == {"level", "subject", "text", "remedy"}
    broken = tmp_path / "broken"
    shutil.copytree(seeded.store, broken)
    for name in ("state.db-wal", "state.db-shm"):
        (broken / name).unlink(missing_ok=True)  # a log that holds the damaged page would hide the damage
    with open(broken / "state.db", "r+b") as file:
        file.write(b"garbage" * 100)
    done = seeded("--store", str(broken), "doctor")
    assert done.returncode == 5
    assert "state.db" in done.stdout


def test_a_closed_pipe_is_no_error(seeded: Cli) -> None:
    """``flowdeck events | head`` ends quietly, also when it would have followed for ever."""
    script = f"{' '.join(FLOWDECK)} events -f --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], env=seeded.environment,
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.endswith("\n0\n")
    assert done.stderr == ""


CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")
SGR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("words", [("ls",), ("show", "2"), ("logs", "2"), ("events", "--run", "2"), ("show", "2/2")])
def test_nothing_of_the_data_controls_the_terminal(
    seeded: Cli, in_terminal: Callable[..., tuple[int, bytes]], words: tuple[str, ...]
) -> None:
    """Only our own colours reach it: no other escape sequence, no control byte, no C1 control of the data's."""
    code, seen = in_terminal(seeded, *words)
    assert code == 0
    assert SGR.search(seen)
    plain = SGR.sub(b"", seen)
    assert b"\x1b" not in plain
    assert not CONTROL_BYTES.search(plain)
    assert not [char for char in plain.decode() if "\x80" <= char <= "\x9f"]


@pytest.mark.parametrize(("words", "environment"), [
    (("ls", "--no-color"), {}), (("--no-color", "ls"), {}), (("ls",), {"NO_COLOR": "1"}), (("ls",), {"TERM": "dumb"}),
])  # fmt: skip
def test_colour_can_be_refused(
    seeded: Cli, in_terminal: Callable[..., tuple[int, bytes]], words: tuple[str, ...], environment: dict[str, str]
) -> None:
    """By option, by NO_COLOR, by a terminal that has none; and a pipe never gets any."""
    code, seen = in_terminal(seeded, *words, **environment)
    assert code == 0
    assert b"\x1b" not in seen
    assert "\x1b" not in seeded("ls").stdout


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_tables_fit_the_terminal(seeded: Cli, in_terminal: Callable[..., tuple[int, bytes]], columns: int) -> None:
    """No line of a table wraps."""
    _, seen = in_terminal(seeded, "ls", columns=columns)
    lines = SGR.sub(b"", seen).decode().splitlines()
    assert max(map(len, lines)) <= columns
    assert any("#2" in line for line in lines)


def test_ascii_terminals_get_letters(seeded: Cli) -> None:
    """Where the encoding has no glyphs, nothing breaks and letters stand for them."""
    done = seeded("show", "2", PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "`- boom" in done.stdout


def test_listings_import_nothing_heavy(seeded: Cli) -> None:
    """What makes them start at once: no rich, textual, pydantic, sqlalchemy, sqlmodel or asyncio."""
    heavy = {"rich", "textual", "pydantic", "sqlalchemy", "sqlmodel", "asyncio", "croniter", "tenacity", "cloudpickle"}
    program = (
        "import sys\nfrom flowdeck.cli.main import main\ncode = main(sys.argv[1:])\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    for words in (["--help"], ["ls"], ["show", "2"], ["logs", "2"], ["events"], ["flows"], ["schedules"], ["doctor"]):
        done = subprocess.run([FLOWDECK[0], "-c", program, *words], env=seeded.environment,
                              capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.endswith("[]\n"), (words, done.stderr)


def test_help_names_every_command(seeded: Cli) -> None:
    """One screen, and each command has help of its own."""
    from flowdeck.cli.main import COMMANDS

    text = seeded("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name}\b", text, re.MULTILINE)
        done = seeded(name, "--help")
        assert done.returncode == 0
        assert f"usage: flowdeck {name}" in done.stdout
    assert seeded("--version").stdout.startswith("flowdeck ")



def test_logs_through_a_pipe_are_cleaned_unless_they_are_wanted_raw(seeded: Cli) -> None:
    """A pager, ``tail`` and ``grep`` hand on what they read to the terminal."""
    piped = seeded("logs", "2")
    assert "about to fail" in piped.stdout
    assert "no rows" in piped.stdout
    assert not set(piped.stdout + piped.stderr) & {"\x1b", "\x07", "\x9b"}
    raw = seeded("logs", "2", "--raw")
    assert "about to fail \x1b[2J\x1b]0;owned\x07" in raw.stdout


def test_no_text_goes_round_the_guard_of_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a command hands over: our own colours pass, nothing else that a terminal obeys, and no known secret."""
    out = Output(colour=True)
    hostile = "a\x1b[2Jb\x1b]0;x\x07c\x9b31md\u202ee\rf\x1b[0;31;5mg\tend kanarie-of-the-guard-1"
    conceal("kanarie-of-the-guard-1")
    for say in (out.line, out.say, out.complain):
        say(hostile)
    out.table([Column("A")], [[Cell(hostile)]])
    out.json_line({"key": hostile})
    out.json_object({hostile: hostile})
    out.line(f"{STYLES['red']}ours{RESET}")
    shown = "".join(capsys.readouterr())
    assert f"{STYLES['red']}ours{RESET}" in shown
    rest = shown.replace(STYLES["red"], "").replace(RESET, "").replace(STYLES["bold red"], "")
    assert not set(rest) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
    assert "kanarie" not in shown


def test_only_the_output_writes_to_the_two_streams() -> None:
    """The guard stands in one place: no other module of the command line writes, prints or has argparse write."""
    folder = Path(flowdeck.cli.__file__).parent
    found = [
        f"{path.name}:{node.lineno}" for path in sorted(folder.glob("*.py")) if path.name != "output.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        and (ast.unparse(node.func) == "print" or ast.unparse(node.func).endswith((".stdout.write", ".stderr.write",
             ".stdout.buffer.write", ".stderr.buffer.write", ".writelines")))
    ]  # fmt: skip
    assert found == []

SCHEDULED = """
from datetime import datetime
from zoneinfo import ZoneInfo
from flowdeck import *

@flow(schedule=[
    Cron("0 6 * * *", timezone="America/New_York", slug="given"),
    Cron("0 6 * * *", slug="default"),
    Cron("0 6 * * *", timezone="local", slug="local"),
    Interval(86_400, anchor_date=datetime(2026, 1, 1, 9, tzinfo=ZoneInfo("Asia/Kathmandu")), slug="anchor"),
    RRule("DTSTART;TZID=Asia/Tokyo:20260101T060000\\nRRULE:FREQ=DAILY", slug="rule"),
])
def planned():
    print("said")
"""


def test_moments_are_in_the_readers_zone_which_is_said_once(cli: Cli, until: Callable[..., None]) -> None:
    """``schedules`` tells each one's next moment, its zone and where that comes from; others say theirs as well."""
    cli.flows.write_text(SCHEDULED)
    cli.environment["TZ"] = "Europe/Berlin"
    daemon = cli.start("daemon", str(cli.flows))
    until(lambda: len(parsed(cli("schedules", "--json"))) == 5, "the schedules to be known")
    shown = cli("schedules")
    assert re.search(r"^NEXT is in (CET|CEST) \(UTC\+0[12]:00\)$", shown.stderr, re.M)
    for zone in ("America/New_York, as given", "UTC, the default", "Europe/Berlin, this machine's",
                 "Asia/Kathmandu, of its first date", "Asia/Tokyo, of its rule"):
        [line] = [line for line in shown.stdout.splitlines() if zone in line]
        assert re.search(r"\d\d:\d\d:\d\d \(in .*\)", line)
    found = parsed(cli("schedules", "--json"))
    assert {(one["slug"], one["timezone_from"]) for one in found} == {
        ("given", "as given"), ("default", "the default"), ("local", "this machine's"), ("anchor", "of its first date"),
        ("rule", "of its rule")}  # fmt: skip
    assert all(ISO.fullmatch(one["next_due_at"]) for one in found)
    assert cli("run", str(cli.flows)).returncode == 0
    for command in (["logs", "@last"], ["events"]):
        done = cli(*command, TZ="Asia/Kathmandu")
        assert done.stderr.splitlines().count("times: UTC+05:45") == 1
        assert all(re.match(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d{3} ", line) for line in done.stdout.splitlines())
    assert re.search(r"started +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d .*\n(.*\n)*  zone +UTC\+05:45\n",
                     cli("show", "@last", TZ="Asia/Kathmandu").stdout)
    daemon.terminate()
    said = daemon.communicate(timeout=60)[1]
    assert said
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+0[12]:00 ", line) for line in said.splitlines())

