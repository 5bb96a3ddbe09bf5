"""The flows that the sweep of process faults runs: steady ones, deaf ones, ones whose children escape, and quick ones.

Copied into the folder of flows of a round. Whatever has the run of one holds two locks: ``alone/RUN`` is the process's
own, so that a second process of the run is found out; ``held/RUN`` goes with every child, so that anybody can see, from
any namespace, whether something of the run lives. What a copy of the store runs writes to a place of its own.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

from flowdeck import INPUTS, IsolationLevel, concurrency, flow, get_run_logger, runtime, task

PLACE = os.environ["CRASH_PLACE"]
_run = 0
_speaker = ""
_held = -1
_said = 0


def effect(text):
    descriptor = os.open(f"{PLACE}/effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def come(name):
    """Say which process has the run now."""
    global _run, _speaker, _held, _said
    _run, _said = runtime.flow_run.id, 0
    _speaker = f"{_run}x{os.urandom(4).hex()}"
    alone = os.open(f"{PLACE}/alone/{_run}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        effect(f"doubled {_run}")
    _held = os.open(f"{PLACE}/held/{_run}", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(_held, fcntl.LOCK_SH)
    os.set_inheritable(_held, True)
    effect(f"process {_run} {_speaker}\nrun {name} {_run}")


def say():
    """One line that must be kept."""
    global _said
    _said += 1
    if _said % 2:
        get_run_logger().info("saying %s %d", _speaker, _said)
    else:
        print(f"saying {_speaker} {_said}")
    effect(f"said {_speaker} {_said}")


@task(task_run_name="{name}-{number}")
def step(name, number):
    effect(f"process {_run} {_speaker}\nbegin {name}-{number}")
    say()
    return number


def is_enough(name, number):
    """Whether to stop before this step; one that began is always come to again."""
    if number < 3 or not os.path.exists(f"{PLACE}/enough"):
        return False
    with open(f"{PLACE}/effects") as file:
        return f"begin {name}-{number}\n" not in file.read()


def steps(name):
    number = 0
    while not is_enough(name, number):
        step(name, number)
        effect(f"returned {name}-{number}")
        number += 1
        time.sleep(0.05)
    return number


@flow(crash_retries=1000, log_prints=True)
def steady(name: str):
    """Steps until it is enough."""
    come(name)
    return steps(name)


@task(task_run_name="lasting-{name}", cache_policy=INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE))
def lasting(name):
    """Holds its key, until it is enough."""
    effect(f"begin lasting-{name}")
    while not os.path.exists(f"{PLACE}/enough"):
        time.sleep(0.02)
    return name


@flow(crash_retries=1000, log_prints=True)
def holding(name: str):
    """Holds a slot of a limit and the key of a cached task, for as long as it lives."""
    come(name)
    with concurrency("narrow"):
        say()
        effect(f"holds {name}")
        return lasting(name)


@flow(log_prints=True)
def patient(name: str):
    """The same with as many crash retries as a flow has by itself."""
    come(name)
    return steps(name)


@task
def shrugging():
    shrug()


def shrug():
    """Listens to nothing that Python can raise."""
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            continue


def escape(how):
    """A child that gets away from its parent, its group, its session or its environment."""
    match how:
        case "child":
            subprocess.Popen(["sleep", "3600"], pass_fds=[_held])
        case "session":
            subprocess.Popen(["sleep", "3600"], env={}, start_new_session=True, pass_fds=[_held])
        case "shell":
            words = ["sh", "-c", "setsid sleep 3600 & exit 0"]
            subprocess.Popen(words, env={"PATH": os.environ["PATH"]}, pass_fds=[_held]).wait()
        case "fork":
            if (child := os.fork()) == 0:
                os.setsid()
                if os.fork() == 0:
                    while True:
                        time.sleep(60)
                os._exit(0)
            os.waitpid(child, 0)


@flow(crash_retries=1000, log_prints=True)
def deaf(name: str, how: str, escapes: list[str]):
    """Does not end by itself, and perhaps not when it is asked to."""
    come(name)
    for escaped in escapes:
        escape(escaped)
    if how in ("ignores", "C"):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    effect(f"deaf {name}")
    match how:
        case "listens":
            time.sleep(3600)
        case "task":
            shrugging()
        case "submitted":
            shrugging.submit().result()
        case "C":
            ctypes.PyDLL(None).sleep(3600)  # the lock of the interpreter stays held
        case _:
            shrug()


if __name__ == "__main__":
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
