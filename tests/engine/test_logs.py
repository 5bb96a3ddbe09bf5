"""Everything a run says is kept, in order, with the run and task that said it; kills included."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import random
import signal
import subprocess
import sys

import pytest
from flowdeck import flow, get_run_logger, task
from flowdeck.store.reader import Reader
from flowdeck.store.spool import drain_leftovers, leftovers


def messages(reader, run_id=1, **wanted):
    """Messages of the rows that fit."""
    return [row.message for row in reader.logs(run_id, limit=100_000)
            if all(getattr(row, name) == value for name, value in wanted.items())]  # fmt: skip


def test_every_way_to_say_something_is_kept(reader, script) -> None:
    """Loggers, print, both streams, descriptors, children, C code; in a process of its own, shown to the person too."""
    done = script.run("""
        import ctypes, logging, subprocess
        @task
        def talks():
            get_run_logger().debug("debug %d", 1)
            get_run_logger().info("by the run logger")
            logging.getLogger("my.lib").warning("by the standard library")
            print("printed")
            print("to stderr", file=sys.stderr)
            sys.stdout.write("written"); sys.stdout.write(" in pieces\\n")
            sys.stdout.buffer.write(b"bytes\\n"); sys.stdout.buffer.flush()
            os.write(1, b"descriptor one\\n")
            os.write(2, b"descriptor two\\n")
            subprocess.run(["sh", "-c", "echo child out; echo child err >&2"])
            libc = ctypes.CDLL(None)
            libc.puts(b"from C"); libc.fflush(None)
            print("\\u20ac unicode \\U0001F600")
            print("nul \\0 byte")
            print("x" * 1_000_000)
            print("no end", end="")
        @flow
        def whole():
            print("flow says")
            logging.info("info of the standard library")
            talks()
            sys.stdout.write("last words")
        whole()
        print("after the run")
    """)
    assert done.returncode == 0, done.stderr
    rows = reader.logs(1, limit=1000)
    said = [row.message for row in rows]
    wanted = ["debug 1", "by the run logger", "by the standard library", "printed", "to stderr", "written in pieces",
              "bytes", "descriptor one", "descriptor two", "child out", "child err", "from C", "€ unicode 😀",
              "nul \0 byte", "no end", "flow says", "info of the standard library", "last words"]  # fmt: skip
    assert [text for text in wanted if said.count(text) != 1] == []
    assert sum(len(text) for text in said if set(text) == {"x"}) == 1_000_000
    assert "after the run" not in said
    by = {row.message: row for row in rows}
    assert (by["printed"].task_seq, by["printed"].stream, by["printed"].level) == (1, "stdout", 20)
    assert (by["to stderr"].stream, by["to stderr"].level) == ("stderr", 30)
    assert (by["by the standard library"].logger, by["by the standard library"].level) == ("my.lib", 30)
    assert by["flow says"].task_seq is None
    assert by["no end"].task_seq == 1
    assert [row.line for row in rows] == list(range(len(rows)))
    for text in ("printed", "descriptor one", "child out", "from C", "last words", "after the run"):
        assert text in done.stdout, text
    for text in ("by the run logger", "to stderr", "child err"):
        assert text in done.stderr, text
    assert leftovers(script.store) == []


def test_threads_do_not_mix_their_lines(reader) -> None:
    """Pieces of many tasks at once come together to their own lines, with their own task."""

    @task
    def talks(n):
        for k in range(50):
            print(n, end="-")
            print(k)

    @flow
    def whole():
        talks.map(range(8)).wait()

    whole()
    seqs = {row.seq: row.map_index for row in reader.tasks(1)}
    for seq, n in seqs.items():
        assert messages(reader, task_seq=seq) == [f"{n}-{k}" for k in range(50)]


def test_nested_runs_and_tasks_keep_their_own_lines(reader) -> None:
    """A subflow's lines are stored with its root, under its own number."""

    @task
    def inner():
        get_run_logger().info("inner")

    @flow
    def child():
        get_run_logger().info("child")
        inner()

    @task
    def outer():
        get_run_logger().info("before")
        inner()
        get_run_logger().info("after")

    @flow
    def whole():
        child()
        outer()
        get_run_logger().info("end")

    whole()
    rows = [(row.message, row.run_id, row.task_seq) for row in reader.logs(1) if row.logger == "flowdeck.run"]
    assert rows == [("child", 2, None), ("inner", 2, 1), ("before", 1, 2), ("inner", 1, 3), ("after", 1, 2),
                    ("end", 1, None)]  # fmt: skip


def test_logging_with_tracebacks_and_wrong_arguments(reader) -> None:
    """The traceback belongs to the record; a message that cannot be made stops nothing."""

    class Mute:
        def __str__(self):
            raise RuntimeError

    @flow
    def whole():
        logger = get_run_logger()
        try:
            raise ValueError("logged")
        except ValueError:
            logger.exception("with traceback")
        before, logging.raiseExceptions = logging.raiseExceptions, False
        try:
            logger.info("%d of %s", "x")
            logger.info("%s", Mute())
        finally:
            logging.raiseExceptions = before
        logger.info("two\nlines")
        return "fine"

    assert whole() == "fine"
    said = messages(reader)
    assert "with traceback" in said
    assert "ValueError: logged" in said
    assert said[-2:] == ["two", "lines"]


def test_a_stream_behaves_like_a_stream(reader) -> None:
    """What scripts do with ``sys.stdout``."""
    import sys

    @flow
    def whole():
        assert sys.stdout.writable()
        assert sys.stdout.encoding == "utf-8"
        assert isinstance(sys.stdout.isatty(), bool)
        assert sys.stdout.fileno() == 1
        sys.stdout.writelines(["a\n", "b\n"])
        sys.stdout.reconfigure(line_buffering=True)
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")
        print("c", flush=True)
        print("\ud800 surrogate")

    whole()
    said = messages(reader)
    assert said[:3] == ["a", "b", "c"]
    assert "surrogate" in said[3]


def test_two_runs_in_one_process_keep_their_own_logs(reader) -> None:
    """Each root run has its own lines, whoever holds the descriptors."""
    import threading

    barrier = threading.Barrier(2)

    @flow
    def talks(n):
        barrier.wait(10)
        for k in range(20):
            get_run_logger().info("run %d says %d", n, k)
            print("run", n, "prints", k)
        barrier.wait(10)

    threads = [threading.Thread(target=talks, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for run in reader.runs():
        n = run.parameters[-2]
        said = [row.message for row in reader.logs(run.id)]
        assert [text for text in said if "says" in text] == [f"run {n} says {k}" for k in range(20)]
        assert [text for text in said if "prints" in text] == [f"run {n} prints {k}" for k in range(20)]


def test_what_was_said_before_a_kill_is_stored(reader, script) -> None:
    """Every way of output, at random moments; in order, none twice."""
    generator = random.Random(3)
    script.write("""
        @task
        def talks(limit):
            for k in range(10_000):
                print("printed", k)
                get_run_logger().info("logged %d", k)
                os.write(1, b"raw %d\\n" % k)
                effect(k)
                if k == limit:
                    os.kill(os.getpid(), 9)
        @flow
        def whole():
            talks(int(sys.argv[1]))
        whole()
    """)
    for run_id in range(1, 6):
        limit = generator.randrange(0, 300)
        process = script.start(None, str(limit))
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        drain_leftovers(script.store)
        with Reader(script.store) as fresh:
            for word in ("printed", "logged", "raw"):
                said = [text for text in messages(fresh, run_id) if text.startswith(word)]
                assert said == [f"{word} {k}" for k in range(limit + 1)]


def test_output_of_forked_children_belongs_to_their_task(reader, script) -> None:
    """multiprocessing inside a task: prints, loggers, results; a task called in such a child says why not."""
    done = script.run("""
        import multiprocessing
        def square(n):
            print("in child", n)
            return n * n
        @task
        def other():
            pass
        def forbidden(queue):
            try:
                other()
            except BaseException as error:
                queue.put(f"{type(error).__name__}: {error}")
        @task
        def spreads():
            context = multiprocessing.get_context("fork")
            with context.Pool(2) as pool:
                values = pool.map(square, range(4))
            queue = context.Queue()
            child = context.Process(target=forbidden, args=(queue,))
            child.start()
            print("said", queue.get(timeout=10))
            child.join(10)
            sleeper = context.Process(target=time.sleep, args=(30,))
            sleeper.start()
            sleeper.terminate()
            sleeper.join(10)
            print("exit", sleeper.exitcode)
            return values
        @task
        def first():
            pass
        @flow
        def whole():
            first()  # the writer's thread runs by now, and is not there in a child
            return spreads()
        assert whole() == [0, 1, 4, 9]
    """)
    assert done.returncode == 0, done.stderr
    said = messages(reader, task_seq=2)
    assert sorted(text for text in said if text.startswith("in child")) == [f"in child {n}" for n in range(4)]
    assert any(text.startswith("said UsageError: ") and "forked" in text for text in said), said
    assert "exit -15" in said
    assert len(reader.tasks(1)) == 2


def test_user_threads_and_executors_in_tasks(reader) -> None:
    """With a copied context or without, their lines belong to the task, and tasks can be called."""
    import contextvars
    import threading
    from concurrent.futures import ThreadPoolExecutor

    @task
    def leaf(n):
        return n

    @task
    def spreads():
        get_run_logger()
        thread = threading.Thread(target=lambda: print("bare thread"))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(3) as executor:
            plain = list(executor.map(lambda n: n * n, range(5)))
            inside = [executor.submit(contextvars.copy_context().run, leaf, n).result() for n in range(3)]
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: get_run_logger().info("own thread"),))
        thread.start()
        thread.join()
        return plain, inside

    @flow
    def whole():
        return spreads()

    assert whole() == ([0, 1, 4, 9, 16], [0, 1, 2])
    rows = {row.message: row.task_seq for row in reader.logs(1)}
    assert (rows["bare thread"], rows["own thread"]) == (1, 1)
    assert [row.scope_seq for row in reader.tasks(1)] == [0, 1, 1, 1]


def test_spools_are_private(store, reader) -> None:
    """Nobody else reads what a run says."""
    modes = []

    @flow
    def whole():
        folder = store / "spool"
        modes.extend(oct(os.stat(path).st_mode & 0o777) for path in (folder, *folder.iterdir()))

    whole()
    assert set(modes) == {"0o700", "0o600"}


def test_log_lines_in_a_terminal_do_not_steer_it(reader, script) -> None:
    """They are shown with pictures for what a terminal would obey; what code prints itself goes there as it is."""
    script.write("""
        @flow
        def hostile():
            get_run_logger().warning("a \\x1b]0;owned\\x07 title, \\x1b[31mred\\x1b[0m\\r\\nand \\x1b[2J a wipe")
            print("\\x1b[32mgreen\\x1b[0m by its own will")
        hostile()
    """)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "FLOWDECK_STORE": str(script.store)}
    command = [sys.executable, "-P", str(script.path)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal hangs up with its last program
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert "a \u241b]0;owned\u2407 title, red\r\nand \u241b[2J a wipe".encode() in shown
    assert b"\x1b[32mgreen\x1b[0m by its own will" in shown
    assert shown.count(b"\x1b") == 2
    assert any("\x1b]0;owned" in message for message in messages(reader))
