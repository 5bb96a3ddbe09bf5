"""The flow that the crash tests kill: calls, maps, chains of futures, nested tasks and subflows, retries of tasks and
of flows, async tasks, a large result, shell commands, a child program, a durable
sleep, a limit, transactions and a cached task.

Copied beside an ``effects`` file. Every body notes that it began; the flow notes what had returned to it; whoever
logs or prints notes so afterwards. Its result depends on nothing else.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time

from flowdeck import (
    INPUTS,
    Interval,
    concurrency,
    flow,
    get_run_logger,
    sh,
    sleep,
    task,
    transaction,
    upsert_global_concurrency_limit_by_name,
)

HERE = os.path.dirname(os.path.abspath(__file__))
EFFECTS = os.path.join(HERE, "effects")
COMMAND = 'echo "begin $NAME" >> "$EFFECTS"; sleep 0.01; echo "number=$NUMBER" >> "$FLOWDECK_OUTPUT"; echo "is $NUMBER"'
SHELL = 'for i in 1 2 3; do echo "saying sh$0 $i"; echo "said sh$0 $i" >> "$1"; done'
_saying = threading.Lock()
_said = {"log": 0, "print": 0}


def effect(text):
    descriptor = os.open(EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, (text + "\n").encode())
    os.close(descriptor)


def noted(text):
    with open(EFFECTS) as file:
        return f"{text}\n" in file.read()


def say(how):
    with _saying:
        _said[how] += 1
        number = _said[how]
        if how == "log":
            get_run_logger().info("saying %s%d %d", how, os.getpid(), number)
        else:
            print(f"saying {how}{os.getpid()} {number}")
        effect(f"said {how}{os.getpid()} {number}")


def begin(name):
    effect(f"process {os.getpid()}")
    effect(f"begin {name}")
    say("log")


@task(task_run_name="fetch-{number}")
def fetch(number):
    begin(f"fetch-{number}")
    return number * 3


@task(task_run_name="square-{number}")
def square(number):
    begin(f"square-{number}")
    time.sleep(0.002)
    say("print")
    return number * number


@task(task_run_name="inner-{number}")
def inner(number):
    begin(f"inner-{number}")
    return number + 1


@task(task_run_name="outer-{number}")
def outer(number):
    begin(f"outer-{number}")
    return sum(inner(number * 10 + step) for step in range(3))


@task(task_run_name="flaky-{number}", retries=3, retry_delay_seconds=0.01)
def flaky(number):
    first = not noted(f"begin flaky-{number}")
    begin(f"flaky-{number}")
    if first:
        raise ValueError("not yet")
    return -number


@task(task_run_name="shell-{number}")
def shell(number):
    begin(f"shell-{number}")
    subprocess.run(["sh", "-c", SHELL, f"{os.getpid()}x{number}", EFFECTS], check=True)
    return number


@task(task_run_name="total-{label}")
def total(label, numbers):
    begin(f"total-{label}")
    return sum(numbers)


@task(task_run_name="add-{label}")
def add(label, number, more=0):
    begin(f"add-{label}")
    return number + more


@task(task_run_name="soon-{number}")
async def soon(number):
    begin(f"soon-{number}")
    await asyncio.sleep(0.002)
    return number


@task(task_run_name="large-{number}")
def large(number):
    """More than what is kept within the database."""
    begin(f"large-{number}")
    return f"{number} " * 40_000


@task(task_run_name="narrow-{number}")
def narrow(number):
    """One at a time, whatever became of who had the slot before."""
    with concurrency("narrow"):
        begin(f"narrow-{number}")
        return number


@task(task_run_name="stage-{number}")
def stage(number):
    begin(f"stage-{number}")
    return number


@stage.on_commit
def committed(_transaction):
    effect("hook commit")


@stage.on_rollback
def undone(_transaction):
    effect("hook rollback")


@task(task_run_name="cached-{number}", cache_policy=INPUTS)
def cached(number):
    begin(f"cached-{number}")
    return number


def stages():
    """One transaction that stands, one that falls."""
    with transaction():
        sum_ = stage(1) + stage(2)
    try:
        with transaction():
            stage(10)
            raise ValueError("not this one")
    except ValueError:
        return sum_ + cached(4) + cached(4)


def command(number):
    """A shell command as a task, and what it is given."""
    name = f"command-{number}"
    return sh.with_options(name="command", task_run_name=name), {"NAME": name, "NUMBER": number, "EFFECTS": EFFECTS}


@flow(retries=2, retry_delay_seconds=0.01)
def shaky(first):
    """Fails once, after some of its tasks."""
    numbers = [fetch(first), *square.map([first, first + 1]).result()]
    if not noted(f"failed shaky-{first}"):
        effect(f"failed shaky-{first}")
        raise ValueError("not yet")
    return sum(numbers)


@flow
def deepest(first):
    task_, environment = command(first)
    number = int(task_(COMMAND, env=environment).outputs["number"])
    return fetch(first) + shaky(first + 1) - number


@flow
def part(first):
    numbers = [fetch(number) for number in range(first, first + 4)]
    below = deepest(first + 50)
    return total(f"part{first}", numbers) + len(square.map(range(first, first + 6)).result()) + below


@task(task_run_name="calls-{number}")
def calls(number):
    """A task that calls a flow that calls flows."""
    begin(f"calls-{number}")
    return deepest(number) + sum(inner.map([number, number + 1]).result())


@flow(crash_retries=1000, log_prints=True)
def pipeline(size: int = 6):
    effect(f"process {os.getpid()}")
    fetched = []
    for number in range(size):
        fetched.append(fetch(number))
        effect(f"returned fetch-{number}")
    squares = square.map(range(100, 100 + 5 * size))
    nested = outer.submit(1)
    uncertain = flaky.submit(7)
    program = shell.submit(3)
    upsert_global_concurrency_limit_by_name("narrow", 1)
    one_by_one = narrow.map(range(3))
    task_, environment = command(5)
    said = task_.submit(COMMAND, env=environment)
    called = calls.submit(3000)
    last = add.submit("chain0", 0)
    for number in range(1, 8):
        last = add.submit(f"chain{number}", last, more=number)
    waiting = soon.map(range(4))
    below = part(1000)
    sleep(0.05)
    size_of_large = len(large(9))
    twice = outer(2)
    effect("returned outer-2")
    everything = total("all", squares)
    effect("returned total-all")
    again = part(2000)
    futures = [nested, uncertain, program, called, last, *waiting, *one_by_one]
    answers = [stages(), *(future.result() for future in futures), str(said.result())]
    return [fetched, everything, below, twice, again, size_of_large, *answers]


@flow
def short(number: int):
    effect(f"process-{number} {os.getpid()}")
    effect(f"begin short-{number}")
    result = fetch(number + 5000)
    time.sleep(0.15)
    effect(f"end short-{number}")
    return result


@flow(schedule=Interval(1, catchup="all", overlap="allow"))
def ticking():
    effect("tick")


if __name__ == "__main__":
    globals()[sys.argv[1] if len(sys.argv) > 1 else "pipeline"]()
