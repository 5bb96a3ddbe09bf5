"""One flow that uses all there is: the same results, each body once, one log in order, no secret, however it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

FLOWDECK = os.path.join(os.path.dirname(sys.executable), "flowdeck")
CANARY = "canary-7f3b91"
STEPS = """
import enum
from dataclasses import dataclass
from pydantic import BaseModel

class Color(enum.Enum):
    RED = "red"

@dataclass(frozen=True)
class Spot:
    x: int

class Model(BaseModel):
    spot: Spot
    color: Color
"""
EVERYTHING = """
import asyncio, logging, multiprocessing
from concurrent.futures import ThreadPoolExecutor
import beside
from flowdeck import Secret, get_run_logger
from .steps import Color, Model, Spot

logging.basicConfig(level=logging.INFO)

class Own(Exception):
    pass

class Kind(enum.Enum):
    ONE = 1

def square(n):
    return n * n, Spot(n), Kind.ONE

@task
def made():
    effect("made")
    return Model(spot=Spot(1), color=Color.RED), Kind.ONE, Own("said"), beside.Helper(3)

@task
def pooled():
    effect("pooled")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(square, (3,))

@task
def parallel():
    effect("parallel")
    from joblib import Parallel, delayed
    return Parallel(n_jobs=2)(delayed(square)(n) for n in range(2))

@task(isolation="process")
def isolated():
    effect("isolated")
    return square(5)

@task
def one(n):
    effect(f"one {n}")
    return n

@task
async def later(n, word):
    effect(f"{word} {n}")
    await asyncio.sleep(0.01 * (3 - n))
    return n

@flow
async def gathered():
    async def chain(n):
        return await later(await later(n, "first"), "second")
    return await asyncio.gather(*(chain(n) for n in range(3)))

@task
def says():
    effect("says")
    print("1 printed")
    get_run_logger().info("2 logged")
    subprocess.run(["echo", "3 by a child"], check=True)
    logging.getLogger("own").warning("4 by a logger")
    for done in (10, 100):
        sys.stderr.write(f"\\r5 bar {done} %")
    sys.stderr.write("\\n")
    print("6", Secret("CANARY").get())

@task
def last():
    effect("last")
    if not os.path.exists(HERE + "/mended"):
        LAST
    return "end"

@flow
def everything():
    model, kind, own, helper = made()
    assert isinstance(model, Model) and model == Model(spot=Spot(1), color=Color.RED) and model.color is Color.RED
    assert kind is Kind.ONE and isinstance(own, Own) and isinstance(helper, beside.Helper) and helper.n == 3
    for number, spot, kind in (pooled(), *parallel(), isolated()):
        assert isinstance(spot, Spot) and spot.x ** 2 == number and kind is Kind.ONE, (type(spot), Spot)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == [0, 1]
    assert asyncio.run(gathered()) == [0, 1, 2]
    says()
    return last()

if __name__ == "__main__":
    everything()
"""
ONCE = sorted(["made", "pooled", "parallel", "isolated", "one 0", "one 1", "says",
               *(f"{word} {n}" for word in ("first", "second") for n in range(3))])


def environment(box):
    return {**os.environ, "FLOWDECK_STORE": str(box.folder), "FLOWDECK_SECRET_CANARY": CANARY,
            "PYTHONPATH": str(box.root / "helper")}


def started(box, *command, cwd=None):
    done = subprocess.run(command, env=environment(box), cwd=cwd, capture_output=True, text=True, check=False,
                          timeout=120, stdin=subprocess.DEVNULL)
    assert CANARY not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("by", ["script", "run", "daemon"])
def test_one_flow_with_everything(box, by):
    """It fails, or is killed, at its end, and goes on: from another folder, or after its release has moved."""
    pytest.importorskip("joblib")
    (box.root / "helper").mkdir()
    (box.root / "helper" / "beside.py").write_text("class Helper:\n    def __init__(self, n):\n        self.n = n\n")
    box.write("../releases/1/pkg/__init__.py", "", prelude=False)
    box.write("../releases/1/pkg/steps.py", STEPS, prelude=False)
    fails = "os.kill(os.getpid(), signal.SIGKILL)" if by == "daemon" else "raise ValueError('not yet')"
    box.write("../releases/1/pkg/flows.py", "import enum\n" + EVERYTHING.replace("LAST", fails))
    current = box.root / "current"
    current.symlink_to(box.root / "releases" / "1")
    path = str(current / "pkg" / "flows.py")
    if by == "daemon":
        daemon = box.daemon(path, **environment(box))
        box.submit("everything")
        box.wait(lambda: "last" in box.effects(), 120)
        box.touch("mended")
        box.wait(lambda: box.state(1) == "Completed", 120)
        daemon.stop()
        lasts = box.effects().count("last")
        assert lasts >= 2
    else:
        command = [sys.executable, "-m", "pkg.flows"] if by == "script" else [FLOWDECK, "run", f"{path}:everything"]
        done = started(box, *command, cwd=str(current))
        assert box.effects().count("last") == 1, done.stderr
        if by == "run":  # the next release
            shutil.copytree(box.root / "releases" / "1", box.root / "releases" / "2")
            shutil.rmtree(box.root / "releases" / "1")
            (box.root / "next").symlink_to(box.root / "releases" / "2")
            os.replace(box.root / "next", current)
        box.touch("mended")
        done = started(box, FLOWDECK, "retry", "--here", "-y", "1", cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(each for each in box.effects() if each != "last") == ONCE
    lines = [line.message for line in box.reader.logs(1, 0, 1_000)]
    told = [line for line in lines if line[:2] in ("1 ", "2 ", "3 ", "4 ", "5 ", "6 ")]
    assert told == ["1 printed", "2 logged", "3 by a child", "4 by a logger", "5 bar 100 %", told[-1]], lines
    assert told[-1].startswith("6 ")
    for folder, _, files in os.walk(box.folder):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                assert CANARY.encode() not in file.read(), name
