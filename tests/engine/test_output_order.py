"""Whatever way a line takes, it stands in the log where it was written, with the task that it belongs to."""

from __future__ import annotations

import os
import signal

import pytest
from flowdeck import flow, get_run_logger, task
from flowdeck.store.reader import Reader
from flowdeck.store.spool import drain_leftovers

EVERY_WAY = """
    import asyncio, ctypes, logging, os, subprocess, sys, threading
    from flowdeck import flow, get_run_logger, sh, task
    libc = ctypes.CDLL(None)
    early = logging.StreamHandler()
    print_to_early = __import__("functools").partial(print, file=sys.stdout)

    def every_way():
        wrapped = open(1, "w", buffering=1, closefd=False)
        return [
            lambda text: print(text),
            lambda text: get_run_logger().info(text),
            lambda text: subprocess.run(["sh", "-c", f"echo {text}"]),
            lambda text: os.system(f"echo {text}"),
            lambda text: subprocess.run(["sh", "-c", f"(echo {text} >&2) & wait"]),
            lambda text: os.write(1, text.encode() + b"\\n"),
            lambda text: os.write(2, text.encode() + b"\\n"),
            lambda text: sys.stderr.write(text + "\\n"),
            lambda text: (sys.stdout.buffer.write(text.encode() + b"\\n"), sys.stdout.buffer.flush()),
            lambda text: (libc.puts(text.encode()), libc.fflush(None)),
            lambda text: print(text, file=sys.__stdout__),
            lambda text: print_to_early(text),
            lambda text: early.stream.write(text + "\\n"),
            lambda text: logging.getLogger("some.library").warning(text),
            lambda text: wrapped.write(text + "\\n"),
            lambda text: in_thread(lambda: os.system(f"echo {text}")),
            lambda text: sh(f"echo {text}"),
        ]

    def in_thread(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    @task
    def speaks(order):
        ways = every_way()
        for number, way in enumerate(order):
            ways[way](f"word-{number}")

    @task
    async def speaks_async():
        for number in range(6):
            if number % 2:
                await (await asyncio.create_subprocess_exec("echo", f"async-{number}")).wait()
            else:
                print(f"async-{number}")

    @flow
    def flowing(order: list[int]):
        os.system("echo flow-0")
        speaks(order)
        os.system("echo flow-1")
        print("flow-2")

    @flow
    async def flowing_async():
        os.system("echo flow-0")
        await speaks_async()
        print("flow-1")
"""


def _order() -> list[int]:
    """Every way before every other, but for two descriptors after one another within Python: nobody sees that."""
    import random

    raw = {2: 1, 3: 1, 5: 1, 9: 1, 14: 1, 15: 1, 4: 2, 6: 2}
    within_python = (5, 6, 9, 14)
    pairs = [(one, other) for one in range(17) for other in range(17)
             if other not in within_python or raw.get(one, raw[other]) == raw[other]]  # fmt: skip
    random.Random(5).shuffle(pairs)
    return [way for one, other in pairs[:60] for way in (1, one, other)]


@pytest.mark.parametrize("concealed", [False, True])
def test_each_line_stands_where_it_was_written(reader, script, concealed) -> None:
    """Of whatever mixture of ways, masked or not; all of it is the task's, and what is around it the flow's."""
    order = _order()
    secret = 'os.environ["FLOWDECK_SECRET_TOKEN"] = "hush-hush-hush"; Secret.load("token").get()' if concealed else ""
    done = script.run(EVERY_WAY + f"""
    from flowdeck import Secret
    {secret}
    flowing({order})
    """)
    assert done.returncode == 0, done.stderr
    rows = [row for row in reader.logs(1, limit=100_000) if row.logger != "flowdeck.engine" and row.message[0] != "$"]
    assert [row.message for row in rows] == [
        "flow-0", *(f"word-{number}" for number in range(len(order))), "flow-1", "flow-2",
    ]  # fmt: skip
    tasks = {row.task_seq for row in rows if row.message.startswith("word") and row.logger != "flowdeck.sh"}
    assert tasks == {1}
    assert {row.task_seq for row in rows if row.message.startswith("flow")} == {None}
    shown = [line.split()[-1] for line in done.stdout.splitlines() if "word-" in line]
    assert shown == sorted(shown, key=lambda text: int(text.removeprefix("word-")))


def test_coroutines_own_what_their_children_write(reader, script) -> None:
    """An async task that runs alone, and its flow before and after it."""
    done = script.run(EVERY_WAY + """
    asyncio.run(flowing_async())
    """)
    assert done.returncode == 0, done.stderr
    assert [(row.message, row.task_seq) for row in reader.logs(1)] == [
        ("flow-0", None), *((f"async-{number}", 1) for number in range(6)), ("flow-1", None),
    ]  # fmt: skip


def test_of_several_tasks_at_once_nobody_is_said_to_have_written(reader, script) -> None:
    """What a descriptor carries while two tasks run is the run's; what they print and log is their own."""
    done = script.run("""
        import threading
        both = threading.Barrier(2)
        @task
        def speaks(name):
            both.wait(60)
            os.system(f"echo child of {name}")
            print(f"printed by {name}")
            both.wait(60)
        @flow
        def whole():
            speaks.map(["a", "b"]).wait()
        whole()
    """)
    assert done.returncode == 0, done.stderr
    rows = {row.message: row.task_seq for row in reader.logs(1)}
    assert (rows["child of a"], rows["child of b"]) == (None, None)
    assert {rows["printed by a"], rows["printed by b"]} == {1, 2}
    said = [row.message for row in reader.logs(1)]
    assert all(said.index(f"child of {name}") < said.index(f"printed by {name}") for name in "ab")


def test_a_kill_keeps_the_order(script) -> None:
    """Also of what no mark had told of yet."""
    script.write("""
        @task
        def speaks():
            for number in range(0, 40, 2):
                print(number)
                os.write(1, f"{number + 1}\\n".encode())
            os.kill(os.getpid(), 9)
        @flow
        def whole():
            speaks()
        whole()
    """)
    process = script.start(None)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    drain_leftovers(script.store)
    with Reader(script.store) as fresh:
        assert [row.message for row in fresh.logs(1)] == [str(number) for number in range(40)]


@pytest.mark.parametrize("length", [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 1_100_000])
@pytest.mark.parametrize("character", ["x", "😀", "\0"])
def test_a_line_of_any_length_is_its_text(reader, length, character) -> None:
    """With its level and its task, by every way, between the lines around it; cut between characters only."""
    if character != "x" and length == 64 * 1024 - 1:
        length = 300_001

    @task
    def speaks():
        print("begin")
        print(character * length)
        get_run_logger().error(character * length)
        os.write(1, (character * length).encode() + b"\r\n")
        print("end")

    @flow
    def whole():
        speaks()

    whole()
    rows = reader.logs(1, limit=10_000)
    assert {row.task_seq for row in rows} == {1}
    assert (rows[0].message, rows[-1].message) == ("begin", "end")
    printed = [row for row in rows[1:-1] if row.stream == "stdout"]
    logged = [row for row in rows[1:-1] if row.stream == "log"]
    assert "".join(row.message for row in printed) == character * length * 2
    assert "".join(row.message for row in logged) == character * length
    assert ({row.level for row in printed}, {row.level for row in logged}) == ({20}, {40})
    assert max(len(row.message) for row in rows) <= 64 * 1024
