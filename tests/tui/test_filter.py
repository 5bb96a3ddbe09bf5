"""The filter language, the words for waiting, the palette's commands, the keys file."""

from __future__ import annotations

from pathlib import Path

import pytest
from flowdeck.engine.errors import ParameterError
from flowdeck.store.rows import RunRow
from flowdeck.tui import actions
from flowdeck.tui.commands import Command, read
from flowdeck.tui.dialogs.confirm import read_parameters
from flowdeck.tui.text import filter as filters
from flowdeck.tui.text import times
from flowdeck.tui.text.waiting import Daemon, why

HOUR = 3600 * 1_000_000
NOW = 100 * HOUR
RUN = RunRow(
    1042, "etl", "quick-fox", None, None, None, None, "{}", '["prod", "daily"]', "FAILED", "TimedOut",
    "load: took longer than 60 s", "none", 2, 0, NOW - HOUR // 2, NOW - HOUR // 2, None, NOW - HOUR // 2,
    NOW - HOUR // 4, HOUR // 4, None, None, None, None, None, "ada@forge via cli", None,
)  # fmt: skip
ALIVE, NONE = Daemon("alive", 7), Daemon("none")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True), ("state:failed", True), ("state:timed", True), ("state:running,failed", True),
        ("!state:failed", False),
        ("state:problem", True), ("state:live", False), ("state:ended", True), ("flow:etl", True), ("flow:^t", False),
        ("tag:prod", True), ("tag:pro", False), ("id:1042", True), ("id:>2000", False), ("id:#1042", True),
        ("age:<1h", True), ("age:>1h", False), ("took:>10m", True), ("took:<1m", False), ("by:ada", True),
        ("attempt:>1", True), ("cause:60", True), ("fox", True), ("FOX", False), ("!fox", False), ("q.ick", True),
        ("state:failed flow:etl age:<1h !fox", False), ("state:failed flow:etl age:<1h !zebra", True), ("(", False),
    ],
)  # fmt: skip
def test_what_passes(text: str, passes: bool) -> None:
    """Every field, negation, several terms, regular expressions, case."""
    assert filters.parse(text).matches(RUN, NOW) is passes


def test_what_is_odd_is_said_and_harms_nothing() -> None:
    """Unknown fields and unreadable spans are named; the rest of the filter holds."""
    assert "no field colour" in (filters.parse("colour:red").problem or "")
    assert "no span" in (filters.parse("age:soon state:failed").problem or "")
    assert filters.parse("age:soon state:failed").matches(RUN, NOW)
    assert filters.parse("state:failed").states == {"FAILED"}


def test_every_waiting_run_says_what_it_waits_for() -> None:
    """Time, slot, retry, a person, a daemon; and who asked for what."""
    waiting = RUN._replace(state_type="SCHEDULED", state_name="Scheduled", cause=None, ended_at_us=None,
                           wake_at_us=NOW + HOUR, attempt=1)  # fmt: skip
    assert why(waiting, NOW, ALIVE) == "starts in 1 h"
    assert why(waiting._replace(wake_at_us=NOW - HOUR), NOW, NONE) == "waits for a daemon: none runs"
    assert why(waiting._replace(wake_at_us=NOW - HOUR), NOW, ALIVE) == "late by 1 h"
    assert why(waiting._replace(state_name="AwaitingRetry"), NOW, ALIVE) == "retries in 1 h"
    slot = waiting._replace(state_name="AwaitingSlot", cause="waits for a slot of api, 2nd in line")
    assert why(slot, NOW, ALIVE) == "waits for a slot of api, 2nd in line"
    paused = waiting._replace(state_type="PAUSED", state_name="Paused")
    assert why(paused, NOW, ALIVE) == "waits for resume"
    running = waiting._replace(state_type="RUNNING", state_name="Running", intent="cancel")
    assert why(running, NOW, ALIVE) == "cancel asked for"
    assert why(RUN, NOW, ALIVE) == "load: took longer than 60 s"


def test_durations_are_short() -> None:
    """Of stable width where they tick."""
    seconds = [0.4, 12, 187, 3849, 100_000]
    assert [times.duration(int(s * 1_000_000)) for s in seconds] == ["0.4s", "12s", "3:07", "1:04:09", "1d 03h"]
    assert times.running_duration(3_900_000) == "3s"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("runs state:failed", Command("runs", "state:failed")), ("run 42", Command("run", "tree", 42)),
        ("#42", Command("run", "tree", 42)), ("logs 42", Command("run", "logs", 42)), ("flows", Command("flows")),
        ("run 42 --tab logs", Command("run", "logs", 42)), ("cancel #7", Command("verb", "cancel", 7)),
        ("q", Command("action", "app.quit")), ("trigger etl", Command("trigger", "etl")),
    ],
)  # fmt: skip
def test_commands_are_read(text: str, command: Command) -> None:
    """Also what the command line passes on as the place to open at."""
    assert read(text) == command


def test_nonsense_gets_an_answer() -> None:
    """It names what would work."""
    assert "runs" in str(read("xyzzy"))
    assert "number" in str(read("cancel now"))
    assert "no tab" in str(read("run 4 nothing"))


def test_parameters_as_people_type_them() -> None:
    """JSON where it is JSON, words where it is not."""
    assert read_parameters('day=2026-01-31 n=64 on=true tags=["a", "b"] s="two words" w=x') == {
        "day": "2026-01-31", "n": 64, "on": True, "tags": ["a", "b"], "s": "two words", "w": "x",
    }  # fmt: skip
    for wrong in ("day", 'tags=["a"', "=3"):
        with pytest.raises(ValueError, match=r"write name=value|no JSON"):
            read_parameters(wrong)


def test_parameters_mean_what_their_types_take() -> None:
    """As with ``-p``: text as typed where text is taken, no digit lost; what the run would refuse is refused."""
    properties = {
        "zip": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "n": {"type": "integer"},
        "price": {"anyOf": [{"type": "number"}, {"type": "string"}]}, "note": {"type": "string"},
    }  # fmt: skip
    typed = read_parameters("zip=098101 n=5 price=1.10 note=true other=1.5")
    assert typed.meant({"properties": properties}) == {
        "zip": "098101", "n": 5, "price": "1.10", "note": "true", "other": 1.5,
    }  # fmt: skip
    assert typed.but(["zip", "other"]).meant({"properties": properties}) == {"n": 5, "price": "1.10", "note": "true"}
    with pytest.raises(ParameterError, match=r"parameter 'n': 'many' is no whole number"):
        read_parameters("n=many").meant({"properties": properties})


def test_the_keys_file(tmp_path: Path) -> None:
    """Overrides by id; a line that errs is named with its number; no file is no trouble."""
    path = tmp_path / "keys"
    assert actions.read_keymap(path) == {}
    path.write_text("# mine\nrun.cancel = D\nlist.down = down,j,n\n")
    assert actions.read_keymap(path) == {"run.cancel": "D", "list.down": "down,j,n"}
    path.write_text("run.cancel = D\nrun.cansel = D\n")
    with pytest.raises(actions.KeysUnreadable, match=r"keys:2: no action 'run\.cansel'"):
        actions.read_keymap(path)


def test_no_two_actions_of_a_place_share_a_key() -> None:
    """Whatever place one is in, a key means one thing."""
    for place in ("runs", "run", "flows"):
        keys = [key for action in actions.at_place(place) for key in action.keys.split(",")]
        assert len(keys) == len(set(keys)), place
    assert len(actions.table()) > 25
