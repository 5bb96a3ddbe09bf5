"""``sh``: commands as tasks. Their streams, codes and outputs; that nothing of them is ever left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from flowdeck import CommandFailed, CommandTimedOut, Secret, ThreadPoolTaskRunner, async_sh, flow, sh
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import UsageError
from flowdeck.store.reader import Reader

TREE = """
echo $$ >> {pids}
sh -c 'echo $$ >> {pids}; setsid sh -c "echo \\$\\$ >> {pids}; sleep 600" & sleep 600' &
trap '' TERM
sleep 600
"""
"""A command with children, one of them in a session of its own, that does not heed TERM."""


def is_alive(pid: int) -> bool:
    """Whether something still runs under this number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class Pids:
    """The numbers that a command's processes wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def three(self) -> list[int]:
        """All of them, once they are there."""
        found = [int(line) for line in self.path.read_text().split()] if self.path.exists() else []
        return found if len(found) == 3 else []


@pytest.fixture
def pids(tmp_path: Path) -> Pids:
    """Where ``TREE`` writes."""
    return Pids(tmp_path / "pids")


def test_a_command_is_a_task_with_its_streams_in_the_log(store: Path, reader: Reader) -> None:
    """Line by line with stream names; the result has code, text and outputs; replay would return it."""

    @flow
    def main() -> Any:
        return sh("echo one; echo two >&2; printf three; echo rows=3 >> $FLOWDECK_OUTPUT")

    result = main()
    assert (result.exit_code, result.stdout, result.stderr, result.outputs) == (0, "one\nthree", "two\n", {"rows": "3"})
    assert str(result) == "one\nthree"
    lines = [(line.stream, line.message, line.task_seq) for line in reader.logs(1)]
    assert lines[0] == ("log", "$ echo one; echo two >&2; printf three; echo rows=3 >> $FLOWDECK_OUTPUT", 1)
    assert sorted(lines[1:]) == [("stderr", "two", 1), ("stdout", "one", 1), ("stdout", "three", 1)]
    task = reader.tasks(1)[0]
    assert (task.key, task.state_name) == ("sh", "Completed")


def test_lists_need_no_shell(store: Path) -> None:
    """What is in a word is never read by one."""

    @flow
    def main() -> str:
        return str(sh(["printf", "%s|", "a b", "$HOME", "; rm -rf /", Path("/tmp")]))

    assert main() == "a b|$HOME|; rm -rf /|/tmp|"


def test_env_and_cwd(store: Path, tmp_path: Path) -> None:
    """Added to this process's environment; None takes a name away."""
    os.environ["SH_TEST_GONE"] = "1"

    @flow
    def main() -> str:
        command = 'echo "$PWD $SH_TEST_X ${SH_TEST_GONE-none}"'
        return str(sh(command, env={"SH_TEST_X": 5, "SH_TEST_GONE": None}, cwd=tmp_path))

    assert main() == f"{tmp_path} 5 none"
    del os.environ["SH_TEST_GONE"]


def test_another_code_than_0_fails_with_the_last_lines(store: Path, reader: Reader) -> None:
    """The cause in the row; the error has the whole result; ``check=False`` takes any code."""

    @flow
    def main() -> int:
        code: int = sh("exit 7", check=False).exit_code
        sh("echo fine; echo 'no such table: x' >&2; exit 3")
        return code

    state = main(return_state=True)
    assert isinstance(state.error, CommandFailed)
    assert state.error.result.exit_code == 3
    assert reader.tasks(1)[0].state_name == "Completed"
    row = reader.tasks(1)[1]
    assert row.state_name == "Failed"
    assert row.cause is not None
    assert row.cause.startswith("CommandFailed: exited with code 3: ")
    assert "no such table: x" in row.cause
    text = "\n".join(line.message for line in reader.logs(1))
    assert "engine/sdk/sh.py" not in text


def test_what_cannot_start_says_why(store: Path) -> None:
    """No such command, no such folder, a signal, nonsense."""

    @flow
    def main(*args: Any, **options: Any) -> None:
        sh(*args, **options)

    for args, options, text in (
        ((["no-such-command-here", "x"],), {}, "there is no command 'no-such-command-here'"),
        (("true",), {"cwd": "/no/such/folder"}, "the folder '/no/such/folder' does not exist"),
        (("kill -9 $$",), {}, r"killed by signal 9 \(SIGKILL\)"),
    ):
        with pytest.raises(CommandFailed, match=text):
            main(*args, **options)
    for wrong in (5, [], b"ls", "a\0b"):
        with pytest.raises(UsageError):
            main(wrong)
    with pytest.raises(UsageError):
        main("true", timeout=0)


def test_outputs_of_every_form_and_hostile_ones(store: Path, reader: Reader) -> None:
    """key=value, blocks and JSON; anything else is said and left out."""
    text = (
        'a=1\nb = x=y \nc<<END\nline 1\nline 2\nEND\n{"n": 3, "list": [1]}\nno sense\n=nothing\n{broken\na=2\n'
        "\x1b[2Jd=\x1b[31mred\n"
    )

    @flow
    def main() -> Any:
        return sh(["sh", "-c", 'printf %s "$1" > $FLOWDECK_OUTPUT', "x", text]).outputs

    outputs = main()
    assert {key: outputs[key] for key in "abcn"} == {"a": "2", "b": " x=y ", "c": "line 1\nline 2", "n": 3}
    assert outputs["list"] == [1]
    warned = [line.message for line in reader.logs(1) if line.level == 30]
    assert len(warned) == 3


def test_hostile_output_is_harmless(store: Path, reader: Reader) -> None:
    """No end of line, no text at all, a million bytes, control characters: kept as lines, memory bounded."""

    @flow
    def main() -> Any:
        sh("printf '\\033[2J\\377\\376\\000x\\r\\n'")
        return sh("head -c 3000000 /dev/zero | tr '\\0' x; echo; yes | head -n 20000").stdout

    text = main()
    assert len(text) == 1024 * 1024
    assert reader.log_count(1) > 20000
    assert all(len(line.message) <= 64 * 1024 for line in reader.logs(1, limit=100))


def test_submitted_mapped_and_in_async_flows(store: Path) -> None:
    """Side by side, also where the pool has few threads."""

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
    def main() -> list[str]:
        first = sh.submit("echo first")
        return [str(first.result()), *map(str, sh.map([f"echo {n}" for n in range(5)]).result())]

    @flow
    async def main_async() -> list[str]:
        return [str(sh("echo called")), str(sh.submit("echo submitted").result())]

    assert main() == ["first", "0", "1", "2", "3", "4"]
    assert asyncio.run(main_async()) == ["called", "submitted"]


def test_awaited_commands_let_the_event_loop_go_on(store: Path, reader: Reader) -> None:
    """``async_sh`` beside other coroutines, more of them than asyncio's own pool has threads; codes are errors."""

    @flow
    async def main_async(folder: Path) -> list[str]:
        count = 20
        met = f"touch {folder}/$0; while [ $(ls {folder} | wc -l) -lt {count} ]; do sleep 0.01; done; echo $0"
        results = await asyncio.gather(*(async_sh(["sh", "-c", met, str(n)]) for n in range(count)))
        with pytest.raises(CommandFailed, match="exited with code 3"):
            await async_sh("exit 3")
        return [str(result) for result in results]

    folder = store.parent / "met"
    folder.mkdir()
    assert asyncio.run(main_async(folder)) == [str(n) for n in range(20)]
    said = {(line.task_seq, line.message) for line in reader.logs(1, limit=1000) if line.stream == "stdout"}
    assert said == {(n + 1, str(n)) for n in range(20)}


def test_a_timeout_ends_an_awaited_command(store: Path, pids: Pids) -> None:
    """With its tree."""

    @flow
    async def main_async() -> None:
        await async_sh.with_options(timeout_seconds=1)(TREE.format(pids=pids.path))

    state = asyncio.run(main_async(return_state=True))
    assert "took longer than 1 s" in state.message
    assert len(pids.three()) == 3
    assert not any(map(is_alive, pids.three()))


def test_retries(store: Path, tmp_path: Path) -> None:
    """``with_options`` as for any task."""
    marker = tmp_path / "marker"

    @flow
    def main() -> str:
        return str(sh.with_options(retries=2, retry_delay_seconds=0, name="flaky")(
            f"test -e {marker} && echo again || {{ touch {marker}; exit 1; }}"))

    assert main() == "again"


def test_a_timeout_ends_the_whole_tree(store: Path, pids: Pids, reader: Reader) -> None:
    """TERM, then KILL, also for what left the group; both kinds of timeout."""

    @flow
    def main() -> None:
        sh(TREE.format(pids=pids.path), timeout=1)

    @flow
    def other() -> None:
        sh.with_options(timeout_seconds=1)(TREE.format(pids=pids.path))

    with pytest.raises(CommandTimedOut, match="took longer than 1 s"):
        main()
    assert not any(map(is_alive, pids.three()))
    assert reader.tasks(1)[0].state_name == "Failed"
    pids.path.unlink()
    assert other(return_state=True).is_failed()
    assert reader.tasks(2)[0].state_name == "TimedOut"
    assert not any(map(is_alive, pids.three()))


@pytest.mark.parametrize("how", ["called", "submitted"])
def test_a_cancelled_run_leaves_nothing_of_its_commands(
    how: str, store: Path, script: Any, pids: Pids, eventually: Any, reader: Reader
) -> None:
    """Children of children too, also those that do not heed TERM and have a session of their own."""
    call = "sh(TREE)" if how == "called" else "sh.submit(TREE).result()"
    process = script.start(f"""
        TREE = {TREE.format(pids=pids.path)!r}
        @flow
        def main():
            {call}
        main()
    """)
    eventually(pids.three)
    control = Control(store, actor="tester@here via test")
    control.cancel(1)
    control.close()
    assert process.wait(60) == 130
    eventually(lambda: not any(map(is_alive, pids.three())))
    assert [row.state_name for row in reader.tasks(1)] == ["Cancelled"]


def test_kill_9_of_a_run_leaves_nothing_of_its_commands(store: Path, script: Any, pids: Pids, eventually: Any) -> None:
    """Without a daemon: the guard sees the run's process die."""
    process = script.start(f"""
        @flow
        def main():
            sh({TREE.format(pids=pids.path)!r})
        main()
    """)
    eventually(pids.three)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not any(map(is_alive, pids.three())))


def test_what_is_left_in_the_background_ends_with_its_command(store: Path, tmp_path: Path, eventually: Any) -> None:
    """And does not keep it from ending."""
    path = tmp_path / "pid"

    @flow
    def main() -> str:
        return str(sh(f"sleep 600 & echo $! > {path}; echo done"))

    assert main() == "done"
    eventually(lambda: not is_alive(int(path.read_text())))


def test_outside_of_a_flow_it_is_a_run_of_its_own(store: Path, reader: Reader) -> None:
    """As any task."""
    assert str(sh("echo alone")) == "alone"
    run = reader.run(1)
    assert run is not None
    assert (run.flow_name, run.state_name) == ("sh", "Completed")


def test_freeze_stops_the_commands_of_a_run_too(
    store: Path, script: Any, tmp_path: Path, eventually: Any, reader: Reader
) -> None:
    """They stand in groups of their own; thaw lets them go on; their guard stays awake."""
    path = tmp_path / "pid"
    process = script.start(f"""
        @flow
        def main():
            sh("echo $$ > {path}; exec sleep 600")
        main()
    """)
    pid = eventually(lambda: path.exists() and path.read_text().strip())

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    control = Control(store, actor="tester@here via test")
    eventually(lambda: reader.run(1).state_type == "RUNNING")  # type: ignore[union-attr]
    control.freeze(1)
    eventually(lambda: state() == "T")
    control.thaw(1)
    eventually(lambda: state() != "T")
    control.freeze(1)
    eventually(lambda: state() == "T")
    control.close()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not is_alive(int(pid)))


def test_the_file_of_outputs_of_a_killed_run_is_removed(box, tmp_path, monkeypatch):
    """By who settles the run; one that is in use, or of somebody else, stays."""
    places = tmp_path / "tmp"
    places.mkdir()
    others = places / "flowdeck-output-other"
    others.touch()
    os.chown(others, 1, 1) if os.geteuid() == 0 else others.unlink()
    box.write("held.py", """
        from flowdeck import sh
        @flow(crash_retries=0)
        def held(n: int):
            sh(f"touch in{n}; exec sleep 1000", cwd=HERE)
    """)
    box.daemon(TMPDIR=str(places))
    runs = [box.submit("held", n=n) for n in range(2)]
    box.wait(lambda: (box.root / "in0").exists() and (box.root / "in1").exists())
    made = set(places.glob("flowdeck-output-*")) - {others}
    assert len(made) == 2
    os.kill(box.reader.lease_of(runs[0]).pid, signal.SIGKILL)
    box.wait_state(runs[0], "Crashed")
    box.wait(lambda: len(set(places.glob("flowdeck-output-*")) - {others}) == 1)
    assert box.state(runs[1]) == "Running"
    os.kill(box.reader.lease_of(runs[1]).pid, signal.SIGKILL)
    box.wait(lambda: not set(places.glob("flowdeck-output-*")) - {others})
    assert others.exists() or os.geteuid() != 0


def test_a_secret_among_a_commands_words_is_warned_of(store, reader, monkeypatch):
    """The list of processes shows words to everybody; the environment only to its user."""
    monkeypatch.setenv("FLOWDECK_SECRET_SHOWN", "kanarie-in-the-list-5")

    @flow
    def main():
        sh("true kanarie-in-the-list-5")
        sh(["true", "--password=kanarie-in-the-list-5"])
        sh("true $TOKEN", env={"TOKEN": Secret("shown")})

    main()
    warned = [line.message for line in reader.logs(1) if "list of processes" in line.message]
    assert len(warned) == 2
    assert "env={'NAME': secret}" in warned[0]
