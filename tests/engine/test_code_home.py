"""The module of a flow file is one module: for whoever runs it, for processes it starts, for what was stored of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from textwrap import dedent

import pytest

PYTHON = sys.executable
FLOWDECK = os.path.join(os.path.dirname(PYTHON), "flowdeck")
WAYS = ["script", "run", "daemon"]


def environment(box, **more):
    return {**os.environ, "FLOWDECK_STORE": str(box.folder), **more}


def run_by(box, by, path, flow, *, args=(), cwd=None, state="Completed"):
    """Run the flow of a file to its end by one of the ways; the run's number."""
    known = max((run.id for run in box.reader.runs()), default=0)
    if by == "daemon":
        daemon = box.daemon(path)
        box.submit(flow)
    else:
        started = [PYTHON, *args] if by == "script" else [FLOWDECK, "run"]
        target = path if by == "script" else f"{path}:{flow}"
        command = started if args else [*started, target]
        done = subprocess.run(command, env=environment(box), cwd=cwd, timeout=120, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert box.reader.run(known + 1) is not None, done.stderr
    box.wait(lambda: (row := box.reader.run(known + 1)) is not None and row.ended_at_us is not None, 120)
    assert box.state(known + 1) == state, said(box, known + 1)
    if by == "daemon":
        daemon.stop()
    return known + 1


def said(box, run_id):
    return "\n".join(line.message for line in box.reader.logs(run_id, 0, 1_000))


def command(box, *arguments, cwd=None):
    done = subprocess.run([FLOWDECK, *arguments], env=environment(box), cwd=cwd, timeout=120, check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


CLASSES = """
import enum, multiprocessing, pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple
import pydantic

class Color(enum.Enum):
    RED = 1

class Flag(enum.Flag):
    ONE, TWO = 1, 2

@dataclass(frozen=True)
class Spot:
    x: int
    class Inner(NamedTuple):
        y: int

class Model(pydantic.BaseModel):
    spot: Spot
    color: Color

class Own(Exception):
    def __init__(self, number, *, word):
        super().__init__(number)
        self.word = word
    def __reduce__(self):
        return _own, (self.args[0], self.word)

def _own(number, word):
    return Own(number, word=word)

def make(n):
    return Spot(n), Spot.Inner(n), Color.RED, Flag.ONE | Flag.TWO, Model(spot=Spot(n), color=Color.RED), make, Spot

def check(made, n):
    spot, inner, color, flag, model, function, kind = made
    assert isinstance(spot, Spot) and spot == Spot(n) and kind is Spot, (type(spot), Spot)
    assert isinstance(inner, Spot.Inner) and inner == Spot.Inner(n)
    assert color is Color.RED and flag is Flag.ONE | Flag.TWO
    assert isinstance(model, Model) and model == Model(spot=Spot(n), color=Color.RED) and model.color is Color.RED
    assert function is make
"""

POOLS = CLASSES + """
def fails(n):
    raise Own(n, word="said")

def with_spawn():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        check(pool.apply(make, (3,)), 3)
        try:
            pool.apply(fails, (4,))
        except Own as error:
            assert error.word == "said"
    return make(1)

@task
def in_thread():
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        check(pool.submit(make, 5).result(), 5)
    return with_spawn()

@task(isolation="process")
def isolated():
    return with_spawn()

@flow
def pools():
    effect("began")
    check(in_thread(), 1)
    check(isolated(), 1)
    effect("ended")

IN_MAIN
"""
GUARDED = 'if __name__ == "__main__":\n    effect("main")\n    pools()\n'


@pytest.mark.parametrize(("by", "name"), [("script", "pools.py"), ("run", "crypt.py"), ("daemon", "my.pools.py")])
def test_processes_of_every_kind_find_the_file_s_code(box, by, name):
    """Functions, classes, exceptions go to spawned and forkserver's processes, and come back as they were."""
    path = box.write(name, POOLS.replace("IN_MAIN", GUARDED))
    run_by(box, by, path, "pools")
    assert box.effects() == [*(["main"] if by == "script" else []), "began", "ended"]


def test_a_flow_that_is_called_at_the_top_level_is_not_run_by_the_children(box):
    """Without a guard, too: in a process of a pool the call does nothing, as when the file is loaded."""
    path = box.write("bare.py", """
import multiprocessing

def square(n):
    return n * n

@flow
def bare():
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            effect(f"{method} {pool.apply(square, (3,))}")

bare()
""")
    for by in ("script", "run"):
        run_by(box, by, path, "bare")
    assert box.effects() == ["spawn 9", "forkserver 9"] * 2
    assert len(box.reader.runs()) == 2


LOKY = POOLS + """
from joblib import Parallel, delayed

@flow
def loky():
    found = Parallel(n_jobs=2)(delayed(make)(n) for n in range(2))
    for n, made in enumerate(found):
        check((*made[:5], make, made[6]), n)  # a script's functions come back as copies

if __name__ == "__main__":
    loky()
"""


@pytest.mark.parametrize(("by", "name"), [("script", "flows.py"), ("run", "crypt.py")])
def test_joblib_finds_the_file_s_code(box, by, name):
    """Its processes are started in a way of their own; cloudpickle names or carries what they need."""
    pytest.importorskip("joblib")
    run_by(box, by, box.write(name, LOKY.replace("IN_MAIN", "")), "loky")


REMEMBERS = CLASSES + """
@task
def first():
    effect("first")
    return make(1)

@task(cache_key_fn=lambda *_: "key")
def cached():
    effect("cached")
    return make(2)

@task
def last():
    if not os.path.exists(HERE + "/mended"):
        raise ValueError("not yet")

@flow
def remembers():
    check(first(), 1)
    check(cached(), 2)
    last()

if __name__ == "__main__":
    remembers()
"""


@pytest.mark.parametrize("by", WAYS)
def test_what_was_stored_of_a_file_is_of_its_classes_for_whoever_goes_on(box, by):
    """A script's are a daemon's are the command line's, and those of the file in another folder."""
    path = box.write("one/flows.py", REMEMBERS)
    run_id = run_by(box, by, path, "remembers", state="Failed")
    assert box.effects() == ["first", "cached"]
    code, text = command(box, "retry", "--here", "-y", str(run_id), cwd="/")
    assert (code, box.effects()) == (1, ["first", "cached"]), text
    box.touch("mended")
    if by == "script":
        box.daemon(path)
        command(box, "retry", "-y", str(run_id))
        box.wait(lambda: box.state(run_id) == "Completed")
    else:
        code, text = command(box, "retry", "--here", "-y", str(run_id))
        assert code == 0, text
    assert box.effects() == ["first", "cached"]
    elsewhere = box.root / "two"
    shutil.copytree(os.path.dirname(path), elsewhere)
    for other in ("script", "run"):
        run_by(box, other, str(elsewhere / "flows.py"), "remembers")
    assert box.effects() == ["first", "cached", "first", "first"]


def test_what_an_older_version_stored_of_a_file_is_found(box):
    """It named the module after the path; and a script's classes are those that the value names."""
    program = dedent("""
        import pickle, sys
        from flowdeck.engine.encoding import codec
        class Spot: pass
        data = pickle.dumps(Spot(), 2).replace(b"c__main__\\n", b"cflow_file_flows_0123abcd\\n")
        assert type(codec.decode("cloudpickle", data, codec.checksum(data))) is Spot
        data = codec.encode(Spot()).data
        assert b"__main__" not in data
        assert type(codec.decode("cloudpickle", data, codec.checksum(data))) is Spot
    """)
    path = box.write("flows.py", program, prelude=False)
    subprocess.run([PYTHON, path], check=True, timeout=60)


WORK = """
from .steps import step
from ..shared import WORD
import neighbour

@flow
def work():
    from . import steps
    assert steps.step is step and __name__ == "pkg.sub.work" or __name__ == "__main__", __name__
    effect(f"{step(2)} {WORD} {neighbour.NAME}")

if __name__ == "__main__":
    work()
"""


@pytest.mark.parametrize("has_init", [True, False])
@pytest.mark.parametrize("by", WAYS)
def test_a_file_of_a_package_is_its_module(box, by, has_init):
    """Relative imports, the package's root and the working folder: as with ``python -m``, retried from anywhere."""
    box.write("src/pkg/sub/steps.py", "from pkg.shared import WORD\n@task\ndef step(n):\n    return f'{n} {WORD}'\n")
    box.write("src/pkg/shared.py", "WORD = 'shared'\n", prelude=False)
    box.write("src/neighbour.py", "NAME = __name__\n", prelude=False)
    if has_init:
        box.write("src/pkg/__init__.py", "from pkg.sub import work\n", prelude=False)
        box.write("src/pkg/sub/__init__.py", "", prelude=False)
    path = box.write("src/pkg/sub/work.py", WORK)
    args = ("-m", "pkg.sub.work") if by == "script" else ()
    run_id = run_by(box, by, path, "work", args=args, cwd=str(box.flows / "src"))
    assert box.effects() == ["2 shared shared neighbour"]
    if by == "script":
        code, text = command(box, "retry", "--here", "--all", "-y", str(run_id), cwd="/")
        assert (code, box.effects()) == (0, ["2 shared shared neighbour"] * 2), text


def test_the_working_folder_is_on_the_path_last(box):
    """Whatever else has a module's name goes before it; a folder that others may write is not looked into."""
    box.write("flows/a.py", "import colorsys, own\n@flow\ndef a():\n    effect(own.__file__ + colorsys.__file__)\n")
    box.write("own.py", "", prelude=False)
    box.write("colorsys.py", "", prelude=False)
    code, text = command(box, "run", "flows/a.py", cwd=str(box.flows))
    assert code == 0, text
    assert box.effects()[0].startswith(f"{box.flows}/own.py")
    assert f"{box.flows}/colorsys.py" not in box.effects()[0]
    box.flows.chmod(0o777)
    code, text = command(box, "run", "flows/a.py", cwd=str(box.flows))
    assert code == 2
    assert f"{box.flows}/own.py is not on the path" in text
    assert "pip install own" not in text


def test_pathless_advice_names_no_package_of_strangers(box):
    """A module that is in no folder around is not looked for under its name in an index."""
    box.write("flows/a.py", "import no_such.part\n@flow\ndef a(): ...\n")
    code, text = command(box, "run", str(box.flows / "flows/a.py"))
    assert code == 2
    assert "no module named 'no_such'" in text
    assert "pip install" not in text


def edited(box, path, flow, change, expected):
    """Submit, change something, and submit again once the daemon has loaded the file anew."""
    daemon = box.daemon(path)
    box.submit(flow)
    box.wait_effects(expected[0])
    loads = daemon.log.count("loaded ")
    change()
    box.wait(lambda: daemon.log.count("loaded ") > loads)
    box.submit(flow)
    box.wait_effects(*expected)


def test_an_edited_module_is_noticed_wherever_it_lies(box):
    """One of a project that was installed in place, outside the flow file's folder and in a namespace package."""
    lib = box.root / "src" / "space" / "lib"
    lib.mkdir(parents=True)
    (lib / "words.py").write_text("WORD = 'old'\n")
    path = box.write("flows/uses.py", f"import sys\nsys.path.append({str(box.root / 'src')!r})\n"
                     "from space.lib import words\n@flow\ndef uses():\n    effect(words.WORD)\n")
    edited(box, path, "uses", lambda: (lib / "words.py").write_text("WORD = 'new'\n"), ["old", "new"])


@pytest.mark.parametrize("of", ["folder", "file"])
def test_a_release_is_switched_by_a_link(box, of):
    """``current`` leads to another folder, or the file to another file: what runs is what it leads to now."""
    for release in ("1", "2"):
        box.write(f"../releases/{release}/flows.py", f"@flow\ndef released():\n    effect('release {release}')\n")
    link = box.root / "app" / ("current" if of == "folder" else "flows.py")
    link.parent.mkdir()

    def lead_to(release):
        target = box.root / "releases" / release / ("" if of == "folder" else "flows.py")
        (box.root / "app" / "next").symlink_to(target)
        os.replace(box.root / "app" / "next", link)

    lead_to("1")
    path = link / "flows.py" if of == "folder" else link
    edited(box, str(path), "released", lambda: lead_to("2"), ["release 1", "release 2"])
