"""``with_context``: processes that users' code starts know the run, and what they log reaches it."""

from __future__ import annotations

from typing import Any

import pytest
from flowdeck.store.reader import Reader

WORK = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from flowdeck.runtime import flow_run, task_run

def work(item):
    get_run_logger().info("logged %s", item)
    print("printed", item)
    return item * 2, flow_run.id, flow_run.flow_name, task_run.id, os.getpid() != MAIN

def makes(item):
    create_markdown_artifact(f"made {item}")
    return flow_run.name

def calls():
    @task
    def inner():
        pass
    inner()

MAIN = int(os.environ.setdefault("MAIN_PID", str(os.getpid())))
"""


def lines_of(reader: Reader) -> set[tuple[int | None, str, str]]:
    """(task, stream, message) of what the run said."""
    return {(line.task_seq, line.stream, line.message) for line in reader.logs(1, 0, 1000)}


@pytest.mark.parametrize("how", ["fork", "spawn", "executor"])
def test_a_pool_of_ones_own(script: Any, reader: Reader, how: str) -> None:
    """Forked or started anew: lines under the task's name, what ``runtime`` knows without the store."""
    pools = {
        "fork": 'multiprocessing.get_context("fork").Pool(2)', "spawn": 'multiprocessing.get_context("spawn").Pool(1)',
        "executor": "ProcessPoolExecutor(2)",
    }
    done = script.run(WORK + f"""
@task
def parallel(items):
    with {pools[how]} as pool:
        return list(pool.map(with_context(work), items))

@flow
def main(secret):
    return parallel([1, 2, 3])

if __name__ == "__main__":
    rows = main("x")
    assert [row[0] for row in rows] == [2, 4, 6], rows
    assert {{row[1:] for row in rows}} == {{("1", "main", "1/1", True)}}, rows
""")
    assert done.returncode == 0, done.stderr
    wanted = {(1, "log", f"logged {n}") for n in (1, 2, 3)} | {(1, "stdout", f"printed {n}") for n in (1, 2, 3)}
    assert wanted <= lines_of(reader)


def test_what_needs_the_store(script: Any, reader: Reader) -> None:
    """Works in a process that was started anew; in a forked one it is refused in words, for SQLite's sake."""
    done = script.run(WORK + """
@task
def parallel(how):
    with multiprocessing.get_context(how).Pool(1) as pool:
        return pool.map(with_context(makes), [1, 2, 3])

@flow(flow_run_name="pools")
def main():
    assert parallel("spawn") == ["pools"] * 3
    print(parallel("fork", return_state=True).message)

if __name__ == "__main__":
    main()
""")
    assert done.returncode == 0, done.stderr
    assert sorted((made.data, made.task_seq) for made in reader.artifacts(1)) == [(f"made {n}", 1) for n in (1, 2, 3)]
    assert "makes() runs in a process forked from the run's" in done.stdout
    assert "spawn" in done.stdout


def test_a_single_process_and_a_flow(script: Any, reader: Reader) -> None:
    """``Process(target=with_context(f))`` from the flow's own code; a secret the run knows is masked there."""
    done = script.run(WORK + """
@flow
def main():
    Secret(value="never-in-a-log-9").save("one")
    process = multiprocessing.Process(target=with_context(work), args=("never-in-a-log-9",))
    process.start()
    process.join()
    assert process.exitcode == 0

if __name__ == "__main__":
    main()
""", FLOWDECK_SECRETS=str(script.folder / "secrets"))
    assert done.returncode == 0, done.stderr
    assert {(None, "log", "logged ********"), (None, "stdout", "printed ********")} <= lines_of(reader)


def test_tasks_are_refused_there_in_words(script: Any) -> None:
    """They belong to the run's own process."""
    done = script.run(WORK + """
@flow
def main():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            pool.apply(with_context(calls))
        except Exception as error:
            return str(error)

if __name__ == "__main__":
    print(main())
""")
    assert done.returncode == 0, done.stderr
    assert "calls() runs in a worker process: tasks" in done.stdout


def test_in_the_runs_own_process(script: Any, reader: Reader) -> None:
    """In threads it does the same; outside a run it is the function itself."""
    done = script.run(WORK + """
import threading

@flow
def main():
    thread = threading.Thread(target=with_context(work), args=(1,))
    thread.start()
    thread.join()

main()
assert with_context(len)("abc") == 3
""")
    assert done.returncode == 0, done.stderr
    assert {(None, "log", "logged 1"), (None, "stdout", "printed 1")} <= lines_of(reader)


def test_from_a_worker_process(script: Any, reader: Reader) -> None:
    """A task of a process pool may have processes of its own, too: each line is kept once."""
    done = script.run(WORK + """
@task
def parallel(how):
    with multiprocessing.get_context(how).Pool(1) as pool:
        assert pool.map(with_context(lambda item: item + len(how)), [1])[0] > 4
        return pool.map(with_context(work), [1, 2])

@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def main():
    return parallel.map(["fork", "spawn"]).result()

if __name__ == "__main__":
    assert [[row[0] for row in rows] for rows in main()] == [[2, 4], [2, 4]]
""")
    assert done.returncode == 0, done.stderr
    said = sorted((line.task_seq, line.message) for line in reader.logs(1, 0, 1000))
    assert said == sorted((seq, f"{word} {n}") for seq in (1, 2) for n in (1, 2) for word in ("logged", "printed"))
