"""Secrets: found by name, masked wherever a run could write them. A canary over every byte of the store's folder."""

from __future__ import annotations

import base64
import html
import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from flowdeck import Secret, flow
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import InputError, NotFound, ParameterError, UsageError
from flowdeck.engine.secrets import masking
from flowdeck.store.reader import Reader

CANARY = "kanarie-7f3a9c\"é-vogel"
"""With a quote and a letter beyond ASCII: JSON, repr and URLs write it differently."""

LEAKY = """
import base64, json, logging, subprocess, urllib.parse
from typing import Any
from pydantic import BaseModel, SecretStr

class Config(BaseModel):
    token: SecretStr

class Odd:
    def __init__(self, value):
        self.value = value
    def __repr__(self):
        return f"Odd({self.value} " + "x" * 200

@task(task_run_name="use {token}")
def use(token: str):
    print("printed", token)
    print("no end of line", token, end="")
    get_run_logger().warning("logged %s and %r", token, token)
    logging.getLogger("other").error("json %s url %s base64 %s", json.dumps(token), urllib.parse.quote(token),
                                     base64.b64encode(token.encode()).decode())
    os.write(1, f"raw {token}\\n".encode())
    subprocess.run(["sh", "-c", 'echo "child $FLOWDECK_SECRET_TOKEN"; echo "err $FLOWDECK_SECRET_TOKEN" >&2'])
    sh('echo "sh $FLOWDECK_SECRET_TOKEN"; echo "out=$FLOWDECK_SECRET_TOKEN" >> $FLOWDECK_OUTPUT')
    create_markdown_artifact(f"# {token}", description=token)
    create_table_artifact([{"token": token}])
    return {"token": token, "long": ["x" * 70 + token, Odd(token)]}

@task
def gives_back_bytes(token):
    return token.encode() * 30000

@task(retries=1, retry_delay_seconds=0)
def fail(token):
    raise ValueError("y" * 290 + f" refused: {token}")

@task
def mapped(token, n):
    return n

@flow(flow_run_name="for {name}")
def child(name: str, config: Any):
    return name

@flow(tags=["leaky"])
def main(token: Secret, config: Config | None = None, plain: SecretStr = SecretStr("")):
    value = token.get()
    use(value)
    gives_back_bytes(value)
    mapped.map([value] * 3, 1).wait()
    child(value, {"nested": [value]})
    try:
        fail(value)
    except ValueError:
        logging.getLogger().exception("with its traceback")
    with tags(value):
        mapped(value, 2)
    WAIT
    if config is not None:
        fail(config.token.get_secret_value())
    return value
"""


def holders_of(folder: Path, value: str) -> list[str]:
    """Every place below the folder whose bytes, or name, hold the value in some form."""
    encoded = value.encode()
    forms = [encoded, value.encode("unicode_escape"), repr(value).encode()[1:-1], base64.b64encode(encoded),
             encoded[:12], value.encode("utf-16-le")]
    found = []
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        found += [f"{path.relative_to(folder)}: …{data[max(0, data.find(form) - 90):data.find(form) + 60]!r}…"
                  for form in forms if form in data]
        found += [f"name of {path.relative_to(folder)}"] * (encoded in os.fsencode(path))
    return found


def test_a_canary_over_the_whole_store(store: Path, script: Any, reader: Reader) -> None:
    """Logs, prints, children, names, parameters, causes, tracebacks, artifacts, previews, results: in no form."""
    text = LEAKY.replace("WAIT", "pass") + "\nmain('token', plain=os.environ['FLOWDECK_SECRET_TOKEN'] + '-plain')\n"
    done = script.run(text, FLOWDECK_SECRET_TOKEN=CANARY)
    assert done.returncode == 0, done.stderr
    assert reader.run(1).state_name == "Completed"  # type: ignore[union-attr]
    assert holders_of(store, CANARY) == []
    assert CANARY not in done.stdout + done.stderr
    messages = [line.message for line in reader.logs(1)]
    for start in ("printed", "no end of line", "logged", "json", "raw", "child", "err", "sh", "with its traceback"):
        assert any(message.startswith(start) for message in messages), start
    assert "raw ********" in messages
    assert "child ********" in messages
    assert '"token": "token"' in reader.run(1).parameters  # type: ignore[union-attr]
    assert '"plain": "********' in reader.run(1).parameters.replace("'", '"') or "SecretStr" in \
        reader.run(1).parameters  # type: ignore[union-attr]


def test_the_canary_after_kill_9_and_resume(box: Any) -> None:
    """What a killed run left in its spool, its journal and its row; and the attempt after it finds the secret again."""
    text = LEAKY.replace("WAIT", 'effect("in"); wait_for("go")')
    box.write("leaky.py", "from flowdeck import *\n" + text)
    box.daemon(FLOWDECK_SECRET_TOKEN=CANARY)
    run_id = box.submit("main", token="token")
    box.wait_effects("in")
    os.killpg(box.reader.lease_of(run_id).pid, signal.SIGKILL)
    box.wait(lambda: box.reader.run(run_id).attempt == 2)
    assert holders_of(box.folder, CANARY) == []
    box.touch("go")
    box.wait_state(run_id, "Completed")
    assert holders_of(box.folder, CANARY) == []


def test_raw_output_without_an_end_of_line_survives_a_kill(box: Any) -> None:
    """It goes on as it is written, a value that comes in pieces masked all the same."""
    box.write(
        "f.py",
        """
        import signal
        from flowdeck import Secret
        @flow(crash_retries=0)
        def raw():
            token = Secret("token").get().encode()
            os.write(1, b"done 10%.. ")
            os.write(1, b"[" + token[:7])
            time.sleep(0.05)
            os.write(1, token[7:] + b"] 20%.. " + token[:5])
            effect("written")
            wait_for("go")
        """,
    )
    box.daemon(FLOWDECK_SECRET_TOKEN=CANARY)
    run_id = box.submit("raw")
    box.wait_effects("written")
    spooled = box.folder / "spool" / f"{run_id}.1.out"
    box.wait(lambda: b"20%.. " in spooled.read_bytes())
    os.kill(box.reader.lease_of(run_id).pid, signal.SIGKILL)
    box.wait_state(run_id, "Crashed")
    box.wait(lambda: [line.message for line in box.reader.logs(run_id, 0, 100)] == ["done 10%.. [********] 20%.. "])


def test_where_a_secret_is_found(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment first, then files that only their owner may read; else words that say what to do."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "db-password").write_text("hunter2-from-file\n")
    (folder / "db-password").chmod(0o600)
    (folder / "open").write_text("read by all")
    (folder / "open").chmod(0o644)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    monkeypatch.setenv("FLOWDECK_SECRETS", str(folder))
    assert Secret("db-password").get() == "hunter2-from-file"
    assert flow(lambda: 1, name="beside-folders")() == 1
    for name in ("folder", "pipe"):
        with pytest.raises(NotFound):
            Secret(name).get()
    monkeypatch.setenv("FLOWDECK_SECRET_DB_PASSWORD", "hunter2-from-env")
    assert Secret.load("db-password").get() == "hunter2-from-env"
    with pytest.raises(UsageError, match="can be read by others: chmod 600"):
        Secret("open").get()
    with pytest.raises(NotFound, match=r"FLOWDECK_SECRET_NO_SUCH, or write it to .*no\.such"):
        Secret.load("no.such")
    for wrong in ("", "a b", "../x", 5):
        with pytest.raises(UsageError):
            Secret(wrong)  # type: ignore[arg-type]


def test_a_secret_shows_its_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As text, pickled, compared; put into a text by mistake it is refused."""
    monkeypatch.setenv("FLOWDECK_SECRET_X", "value-of-x-1234")
    secret = Secret("x")
    assert repr(secret) == str(secret) == "Secret('x')"
    assert b"value-of-x" not in pickle.dumps(secret)
    assert pickle.loads(pickle.dumps(secret)) == secret
    with pytest.raises(UsageError, match="get"):
        f"{secret}"


def test_as_parameters(store: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``Secret`` is given by name; a ``SecretStr`` by value, or better by ``secret:NAME``."""
    from pydantic import SecretStr

    monkeypatch.setenv("FLOWDECK_SECRET_API", "value-of-api-5678")

    @flow
    def named(token: Secret) -> bool:
        return token.get() == "value-of-api-5678"

    @flow
    def typed(token: SecretStr) -> int:
        return len(token.get_secret_value())

    named.fn.__annotations__["token"] = Secret
    typed.fn.__annotations__["token"] = SecretStr
    assert named("api")  # type: ignore[arg-type]
    assert named(Secret("api"))
    assert typed("secret:api") == 17  # type: ignore[arg-type]
    assert typed("given-in-the-clear-9") == 20  # type: ignore[arg-type]
    assert typed(SecretStr("given-in-the-clear-8")) == 20
    rows = [reader.run(number).parameters for number in range(1, 6)]  # type: ignore[union-attr]
    assert rows[:3] == ['{"token": "api"}', '{"token": "api"}', '{"token": "secret:api"}']
    assert "clear" not in "".join(rows)
    assert holders_of(store, "given-in-the-clear-9") == []
    assert named(5, return_state=True).is_failed()  # type: ignore[arg-type]


def test_a_secret_value_is_not_submitted(box: Any) -> None:
    """It would have to be stored: refused with what to write instead."""
    box.write("typed.py", """
        from pydantic import SecretStr
        @flow
        def typed(token: SecretStr):
            effect(str(len(token.get_secret_value())))
    """)
    box.daemon(FLOWDECK_SECRET_API="value-of-api-5678")
    with pytest.raises(ParameterError, match="token=secret:NAME"):
        box.submit("typed", token="in the clear")
    box.wait_state(box.submit("typed", token="secret:api"), "Completed")
    assert box.effects() == ["17"]
    assert holders_of(box.folder, "value-of-api-5678") == []


def test_a_retry_of_a_run_whose_secret_was_not_stored_says_so(store: Path, script: Any, reader: Reader) -> None:
    """Rather than run with eight stars."""
    done = script.run("""
        from pydantic import SecretStr
        @flow
        def main(token: SecretStr):
            raise ValueError
        if __name__ == "__main__":
            main("once-only-secret-1")
    """)
    assert done.returncode == 1
    control = Control(store, actor="tester@here via test")
    control.retry(1)
    control.close()
    from flowdeck.engine.authoring.loader import find_flow
    from flowdeck.engine.running.run_process.claiming import claim_here
    from flowdeck.engine.running.run_process.entry import execute_run

    attempt = claim_here(store, 1)
    assert execute_run(store, 1, attempt, find_flow(str(script.path), "main")) == 1
    row = reader.run(1)
    assert row is not None
    assert row.cause is not None
    assert "parameter 'token' is a secret, whose value is not stored" in row.cause


FLOODED = """
import subprocess
token = Secret("token").get()
with open(HERE + "/big.log", "w") as file:
    for n in range(4000):
        file.write(f"{n} " + "x" * 250 + f" {token} " + "y" * (n % 97) + chr(10))
    file.write("z" * 100_000 + token + "z" * 65_000 + token[: len(token) // 2])
    file.write(token[len(token) // 2 :] + "end" + chr(10))

@flow
def main():
    subprocess.run(["cat", HERE + "/big.log"])
    os.write(1, b"q" * 65_530 + token.encode() + b"q" * 70_000 + chr(10).encode())
    sh(["cat", HERE + "/big.log"])
    for piece in (token[:5], token[5:9], token[9:]):
        print(piece, end="", flush=True)
    print()
    print("w" * 8190 + token[:4], end="", flush=True)
    print(token[4:])
    return sh("cat " + HERE + "/big.log").stdout[-200_000:]
main()
"""


def test_the_canary_in_floods_and_pieces(store: Path, script: Any, reader: Reader) -> None:
    """Megabytes of raw output, lines longer than any bound, values that are cut by every boundary there is."""
    done = script.run("from flowdeck import Secret\n" + FLOODED, FLOWDECK_SECRET_TOKEN=CANARY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert holders_of(store, CANARY) == []
    assert CANARY not in done.stdout + done.stderr
    assert CANARY[:12] not in done.stdout + done.stderr
    assert reader.log_count(1) > 8000


@pytest.mark.parametrize(
    "form",
    [
        lambda value: value.encode().hex(), lambda value: value.encode().hex().upper(),
        lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
        lambda value: base64.urlsafe_b64encode(f"xy{value}??".encode()).decode(),
        lambda value: urllib.parse.quote(value, safe="").lower(), urllib.parse.quote_plus, html.escape, json.dumps,
        shlex.quote, repr, lambda value: f"<{value}>",
    ],
)  # fmt: skip
def test_the_encodings_that_programs_use_are_masked(form: Any) -> None:
    """Hexadecimal, Base64 on its own or within a longer text, URLs in either case, HTML, JSON, shells."""
    value = "kanarie-9b\"é' & <tok/en>"
    masking.conceal(value)
    text = form(value)
    masked = masking.mask(f"before {text} after")
    assert masking.MASK in masked
    assert len(masked.replace(masking.MASK, "")) <= len("before  after") + 14, masked
    assert masking.mask_bytes(text.encode()) != text.encode()


def test_text_is_passed_on_as_soon_as_it_cannot_become_a_secret() -> None:
    """Whatever the pieces: what was passed on, masked, holds no part of the value that was whole before."""
    value = "kanarie-pieces-42"
    masking.conceal(value)
    masking.conceal("2-begins-with-its-end")
    whole = f"one {value} two kanarie-pie three {value}"
    for cut in range(len(whole)):
        first = whole[: masking.decided_text(whole[:cut])]
        assert masking.mask(first) + masking.mask(whole[len(first) :]) == masking.mask(whole)
    data = b"x" * 50 + value.encode() + b"y" * 50
    for cut in range(len(data)):
        first = data[: cut - masking.undecided(data[:cut])]
        assert masking.mask_bytes(first) + masking.mask_bytes(data[len(first) :]) == masking.mask_bytes(data)
    for place in range(len(data)):
        left = data[masking.end_of_secret_at(data, place) :]
        assert left.startswith((b"x", b"y", value.encode())) or not left


STRUCTURED = """
from dataclasses import dataclass
from pydantic import BaseModel, SecretStr

class Login(BaseModel):
    user: str
    password: SecretStr

@dataclass
class Pair:
    name: str
    key: SecretStr

@task
def use(login):
    return login.user

@flow
def main(login: Login, more: list[Login] = [], named: dict[str, SecretStr] = {}, pair: Pair | None = None,
         either: Login | int = 0, n: int = 0):
    print(login.password.get_secret_value(), [each.password.get_secret_value() for each in more])
    effect(login.password.get_secret_value())
    wait_for("go")
    return use(login)
"""


def nested(value: str) -> dict[str, Any]:
    """Parameters of the flow above that hold the value wherever they can."""
    login = {"user": "u", "password": value}
    pair = {"name": "n", "key": value}
    return {"login": login, "more": [login], "named": {"k": value}, "pair": pair, "either": login}


def test_secrets_within_structures_rest_nowhere(store: Path, tmp_path: Path, script: Any) -> None:
    """In models, lists, dicts, dataclasses and unions, given on the command line, also where the run is refused."""
    script.write(STRUCTURED)
    script.touch("go")
    given = [f"-p{name}={json.dumps(value)}" for name, value in nested(CANARY).items()]

    def flowdeck(*words: str) -> Any:
        return subprocess.run([sys.executable, "-P", "-m", "flowdeck", *words], capture_output=True, text=True)

    done = flowdeck("run", str(script.path), *given)
    assert done.returncode == 0, done.stderr
    refused = flowdeck("run", str(script.path), *given, "-pn=many")
    broken = flowdeck("run", str(script.path), f"-plogin={json.dumps({'usr': 'u', 'password': CANARY})}")
    assert (refused.returncode, broken.returncode) == (2, 2)
    shown = flowdeck("show", "@last"), flowdeck("logs", "@last"), flowdeck("show", "@last", "--json")
    for each in (done, refused, broken, *shown):
        assert CANARY not in each.stdout + each.stderr
        assert json.dumps(CANARY)[1:-1] not in each.stdout + each.stderr
    assert holders_of(store, CANARY) == []


def test_secrets_within_structures_are_submitted_by_name(box: Any) -> None:
    """A value is refused with its place; by name it is found by the run, also after a crash."""
    box.write("f.py", "from flowdeck import *\n" + STRUCTURED)
    box.daemon(FLOWDECK_SECRET_TOKEN=CANARY)
    box.wait(lambda: any(row.name == "main" for row in box.reader.deployments()))
    with pytest.raises(ParameterError, match=r"login\.password.* is a secret"):
        box.submit("main", **nested(CANARY))
    run_id = box.submit("main", **nested("secret:token"))
    box.wait_effects(CANARY)
    os.killpg(box.reader.lease_of(run_id).pid, signal.SIGKILL)
    box.wait(lambda: box.effects().count(CANARY) == 2)
    box.touch("go")
    box.wait_state(run_id, "Completed")
    assert holders_of(box.folder, CANARY) == []


def test_an_answer_that_is_secret_is_given_by_name(box: Any) -> None:
    """What a run asks for as SecretStr is refused as a value, and never stored; its name is enough."""
    box.write(
        "ask.py",
        """
        from flowdeck import RunInput, pause_flow_run
        from pydantic import SecretStr
        class Ask(RunInput):
            token: SecretStr
        @flow
        def ask():
            effect(pause_flow_run(wait_for_input=Ask).token.get_secret_value())
        """,
    )
    box.daemon(FLOWDECK_SECRET_TOKEN=CANARY)
    run_id = box.submit("ask")
    box.wait_state(run_id, "AwaitingInput")
    with pytest.raises(InputError, match=r"token is a secret.*token=secret:NAME"):
        box.control.resume(run_id, run_input={"token": CANARY})
    box.control.resume(run_id, run_input={"token": "secret:token"})
    box.wait_state(run_id, "Completed")
    assert CANARY in box.effects()
    assert holders_of(box.folder, CANARY) == []
