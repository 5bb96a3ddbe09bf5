"""A canary through every way in, in every form, over the whole store, the terminal and what commands print of it."""

from __future__ import annotations

import base64
import html
import json
import os
import shlex
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from flowdeck.engine.errors import NotAllowed, ParameterError
from flowdeck.engine.secrets import masking

CANARY = "kan\"arie-7f3a9c é/%x'&<tok>"
"""Each way to write a text down writes it differently."""
TYPED = "typed-0f1e2d3c-never-named"
"""Known to be a secret by its type alone: a value that the code fetched."""


def forms_of(value: str) -> set[bytes]:
    """How programs write a value down."""
    plain = value.encode()
    texts = {
        value, json.dumps(value)[1:-1], json.dumps(json.dumps(value))[1:-1], repr(value)[1:-1], repr(plain)[2:-1],
        base64.b64encode(plain).decode(), base64.b32encode(plain).decode().rstrip("="), plain.hex(), plain.hex(":"),
        urllib.parse.quote(value), urllib.parse.quote_plus(value), html.escape(value), shlex.quote(value)[1:-1],
        base64.b64encode(b"user:" + plain).decode()[8:-6], value[:9], value.encode("unicode_escape").decode(),
    }  # fmt: skip
    return {text.encode() for text in texts} | {value.encode("utf-16-le"), value.encode("utf-32-le")}


def holders(where: Path, *values: str) -> list[str]:
    """Where below a folder one of the values rests, in any form, in a file or as a name."""
    found = []
    for path in [where, *sorted(where.rglob("*"))]:
        data = os.fsencode(path) + (path.read_bytes() if path.is_file() else b"")
        found += [f"{path}: …{data[max(0, data.find(form) - 80) : data.find(form) + 60]!r}" for value in values
                  for form in forms_of(value) if form in data]  # fmt: skip
    return found


def in_text(text: str, *values: str) -> list[bytes]:
    """The forms of the values that a text holds."""
    return [form for value in values for form in forms_of(value) if form in text.encode("utf-8", "replace")]


def printed_by_commands(store: Path) -> str:
    """What every command that shows anything says of the store; to a process that knows no secret."""
    commands = (
        ["ls"], ["ls", "--json"], ["flows"], ["flows", "--json"], ["schedules"], ["show", "1"], ["show", "1", "--json"],
        ["show", "@failed"], ["logs", "1"], ["logs", "1", "--json"], ["logs", "1", "--grep", "."], ["events"],
        ["events", "--json"], ["artifacts"], ["artifacts", "--json"], ["artifacts", "canary"], ["vars"], ["limits"],
        ["doctor"], ["retry", "1", "--plan"],
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMMANDS, str(store), json.dumps(commands)], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
    )  # fmt: skip
    return done.stdout


COMMANDS = """
import json, sys
from flowdeck.cli.main import main
for words in json.loads(sys.argv[2]):
    print("$", *words)
    print("exit code", main(["--store", sys.argv[1], *words]))
"""


WAYS = """
import base64, dataclasses, html, json, logging, shlex, subprocess, urllib.parse, warnings
from flowdeck import *
from pydantic import BaseModel, SecretStr

V = os.environ["FLOWDECK_SECRET_CANARY"]
TYPED = "".join(["typed-0f1e2d3c", "-never-named"])

class Login(BaseModel):
    user: str
    password: SecretStr

@dataclasses.dataclass
class Pair:
    key: str

class Opaque:
    pass

def forms(v):
    plain = v.encode()
    return [v, json.dumps(v), json.dumps(json.dumps(v)), repr(v), repr(plain), base64.b64encode(plain).decode(),
            base64.b32encode(plain).decode(), plain.hex(), plain.hex(":"), urllib.parse.quote(v),
            urllib.parse.quote_plus(v), html.escape(v), shlex.quote(v), base64.b64encode(b"user:" + plain).decode(),
            v.encode("unicode_escape").decode()]

@task
def say(v):
    for form in forms(v):
        print("printed", form)
        logging.getLogger("other").warning("logged %s", form)
        os.write(1, f"written {form}\\n".encode())
    both = "\\n".join(forms(v))
    subprocess.run(["cat"], input=both.encode())
    subprocess.run(["cat"], input=("x" * 70_000 + both.replace("\\n", "") + "y" * 70_000).encode())
    sh(["printf", "%s", both])
    sh("cat >&2; echo out=$V >> $FLOWDECK_OUTPUT", env={"V": v})
    for piece in (v[:4], v[4:9], v[9:]):
        print(piece, end="", flush=True)
    print()
    warnings.warn("warned " + v)
    create_markdown_artifact(both, key="canary", description=v)
    create_table_artifact([{v: v, "b": v.encode().hex()}])
    create_link_artifact("https://x/" + urllib.parse.quote(v), link_text=v)
    emit_event("canary.seen", resource={"id": v}, payload={"v": both})
    metric("m", 1.0)
    for refused in (lambda: Variable.set("held", v), lambda: send_input(v, flow_run_id=runtime.flow_run.id)):
        try:
            refused()
        except Exception as error:
            print("refused", type(error).__name__, error)
    with transaction("key " + v) as block:
        block.stage({"value": 1})
    return {"in": [Pair(v), both, both.encode()]}

@task(retries=1, retry_delay_seconds=0)
def raise_it(v):
    error = ValueError({"value": v, "bytes": v.encode()})
    error.add_note("noted " + v)
    raise error

@task(isolation="process")
def isolated(v):
    print("isolated", v)
    subprocess.run(["echo", v])
    raise RuntimeError(v)

@task
def fetched(how):
    secret = SecretStr(TYPED)
    if how == 0:
        return secret
    if how == 1:
        return Login(user="u", password=secret)
    if how == 2:
        held = Opaque()
        held.deep = {"list": [(secret,)]}
        return held
    return {"large": b"x" * (9 << 20), "secret": secret}

@task(cache_key_fn=lambda _, given: "key " + given["v"])
def cached(v):
    return 1

@flow(name="sub " + V, flow_run_name="run {v}", description="about " + V)
def sub(v, login=None):
    return v

@flow(name="main " + V, description=V, tags=["tag-" + V])
def main(token: Secret, default: str = V, login: Login | None = None, plain: SecretStr = SecretStr(V + "2")):
    v = token.get()
    for one in (say, raise_it, isolated, cached, say.with_options(name=v, tags=[v], description=v, task_run_name=v)):
        one.submit(v).wait()
    fetched.map([0, 1, 2, 3]).wait()
    sub(v, {"deep": [v]})
    with tags(v):
        cached(v)
    return Failed(message="ended by " + v)

main("canary", login={"user": "u", "password": TYPED + "-2"}, return_state=True)
main(V, return_state=True)
"""


def test_every_way_in_of_a_script(store: Path, script: Any) -> None:
    """Printed, logged, raised, returned, named, kept, sent, in pieces and floods, by children; by value or type."""
    done = script.run(WAYS, FLOWDECK_SECRET_CANARY=CANARY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written ********") >= 15
    assert "refused NotAllowed" in done.stdout
    assert in_text(done.stdout + done.stderr, CANARY, TYPED) == []
    assert holders(store, CANARY, TYPED) == []
    said = printed_by_commands(store)
    assert "ended by ********" in said
    assert in_text(said, CANARY, TYPED) == []
    assert "takes the name" in said or "no secret of that name" in said  # the second run, which was given the value


AT_IMPORT = """
from flowdeck import *
from pydantic import BaseModel, SecretStr
V = os.environ["FLOWDECK_SECRET_CANARY"]
TYPED = "typed-0f1e2d3c" + "-never-named"
print("imported with", V, flush=True)
os.write(2, f"raw {V}\\n".encode())
subprocess.run(["echo", "child", V])

class Config(BaseModel):
    password: SecretStr = SecretStr(TYPED)
    url: str = "https://u:" + V

class Question(RunInput):
    token: SecretStr = TYPED
    name: str = "x"

@flow(description="about " + V, tags=["tag-" + V], schedule=Cron("0 0 1 1 *"))
def described(a: str = V, b: SecretStr = TYPED, c: Config = Config(), d: Secret = "canary"):
    print("runs", a, b)
    raise RuntimeError(a)

@flow
def asks():
    print(pause_flow_run(wait_for_input=Question.with_initial_data(description="why " + V, name=V)).name)

@flow
def named(token: Secret):
    effect(str(len(token.get())))

@flow
def child(v: str):
    pass

@flow
def parent():
    try:
        run_deployment("child", parameters={"v": V})
    except Exception as error:
        effect(type(error).__name__)
"""
BROKEN = 'raise RuntimeError("cannot log in with " + os.environ["FLOWDECK_SECRET_CANARY"])'
GIVEN = """
from flowdeck import Cron
@flow(schedule=Cron("0 0 1 1 *", parameters={"v": os.environ["FLOWDECK_SECRET_CANARY"]}))
def given(v: str):
    pass
"""


def test_every_way_in_of_a_daemon(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What files print, raise and say of themselves as they are imported; the log of the daemon; requests."""
    box.write("ways.py", AT_IMPORT)
    box.write("broken.py", BROKEN)
    box.write("given.py", GIVEN)
    daemon = box.daemon(FLOWDECK_SECRET_CANARY=CANARY)
    failed = box.submit("described")
    asked = box.submit("asks")
    box.submit("parent")
    box.wait_state(failed, "Failed")
    box.wait_state(asked, "AwaitingInput")
    box.wait_effects("NotAllowed")
    with pytest.raises(ParameterError, match=r"takes the name of a secret.*It is not shown"):
        box.submit("named", token=TYPED)
    box.wait_state(box.submit("named", token="canary"), "Completed")
    box.wait_state(box.submit("named", token="secret:canary"), "Completed")
    box.wait(lambda: daemon.log.count("********") >= 4)
    assert "cannot log in with ********" in daemon.log
    assert "child ********" in daemon.log
    assert "holds the value of a secret" in daemon.log
    monkeypatch.setenv("FLOWDECK_SECRET_CANARY", CANARY)
    for ask in (
        lambda: box.control.trigger("child", {"v": f"x {CANARY}"}), lambda: box.control.set_variable("held", CANARY),
        lambda: box.control.send(asked, "kind", {"v": CANARY}),
    ):
        masking.conceal(CANARY)
        with pytest.raises(NotAllowed, match="secret"):
            ask()
    daemon.stop()
    assert in_text(daemon.log, CANARY, TYPED) == []
    assert holders(box.folder, CANARY, TYPED) == []
    assert in_text(printed_by_commands(box.folder), CANARY, TYPED) == []


def test_a_file_that_cannot_be_imported_shows_none_in_the_terminal(store: Path, tmp_path: Path) -> None:
    """Its error is said by ``flowdeck run``, with what was given to it."""
    (tmp_path / "broken.py").write_text(f"import os\n{BROKEN}\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flowdeck", "run", str(tmp_path / "broken.py")], capture_output=True, text=True,
        env={**os.environ, "FLOWDECK_SECRET_CANARY": CANARY}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot log in with ********" in done.stderr
    assert in_text(done.stdout + done.stderr, CANARY) == []
