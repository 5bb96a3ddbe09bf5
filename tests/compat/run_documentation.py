"""Runs the examples of Prefect 3's own documentation with nothing changed but their import lines; prints the table.

    git clone --depth 1 https://github.com/PrefectHQ/prefect
    python tests/compat/run_documentation.py prefect/docs/v3 [PAGE [NUMBER]]

Each example is one Python block of a page, by its number there, as a script in a process, a folder and a store of its
own. Its import lines are changed as docs/migrating-from-prefect.md says; what is added below it (``AFTER``) calls
what the page only defines, ``BEFORE`` is what the page has a person do first or forgets to import, a person's answers
are given to pauses, and what is meant to fail (``FAILS``) has to. The table that is printed is the one in
docs/migrating-from-prefect.md. Sleeps are slept: all of them together take minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

PARENT = Path(__file__).resolve().parents[2].parent
AT_ONCE: Final = 6
TIMEOUT_SECONDS: Final = 240
FENCE: Final = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
IMPORTS: Final = (
    (re.compile(r"^( *)from prefect\.runtime import", re.MULTILINE), r"\1from flowdeck.runtime import"),
    (re.compile(r"^( *)from prefect(\.[a-z_.]+)? import", re.MULTILINE), r"\1from flowdeck import"),
    (re.compile(r"^( *)import prefect$", re.MULTILINE), r"\1import flowdeck"),
)
"""The lines of docs/migrating-from-prefect.md."""

EXAMPLES: Final[dict[str, tuple[int, ...]]] = {
    "advanced/caching": (1, 3, 4, 6, 7, 8),
    "advanced/interactive": (1, 3, 4, 5, 6, 8, 9, 16),
    "advanced/logging-customization": (2, 3),
    "advanced/results": (6, 7, 9),
    "advanced/transactions": (1, 3, 4, 5, 6),
    "advanced/use-custom-event-grammar": (2,),
    "concepts/caching": (1, 2, 3),
    "concepts/flows": (1, 2, 3, 5, 6, 7, 8, 9, 10),
    "concepts/runtime-context": (1, 2),
    "concepts/states": (1, 2, 3),
    "concepts/task-runners": (1, 2, 3, 4, 5, 6),
    "concepts/tasks": (1, 2, 3, 4, 5, 6, 7),
    "concepts/variables": (1,),
    "examples/hello-world": (1,),
    "examples/per-worker-task-concurrency": (1,),
    "get-started/quickstart": (1,),
    "how-to-guides/automations/passing-event-payloads-to-flows": (2,),
    "how-to-guides/configuration/store-secrets": (1, 2, 3),
    "how-to-guides/configuration/variables": (1, 2, 3, 4, 5, 6, 7),
    "how-to-guides/migrate/upgrade-to-prefect-3": (1, 2, 3, 4, 5, 6, 8, 9, 12),
    "how-to-guides/workflows/access-runtime-info": (1, 2),
    "how-to-guides/workflows/add-logging": (1, 2, 3, 4, 5),
    "how-to-guides/workflows/artifacts": (1, 2, 3, 4, 5, 6, 7),
    "how-to-guides/workflows/cache-workflow-steps": (1, 4, 5, 6, 7, 8, 9),
    "how-to-guides/workflows/custom-metadata": (1, 2, 3, 4),
    "how-to-guides/workflows/global-concurrency-limits": (1, 2, 3, 5, 6, 7, 8, 10),
    "how-to-guides/workflows/pass-inputs": (1, 3, 4, 5),
    "how-to-guides/workflows/retries": (1, 2, 4, 5, 7),
    "how-to-guides/workflows/run-work-concurrently": (1, 2, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 17, 18),
    "how-to-guides/workflows/state-change-hooks": (2, 3, 4, 5),
    "how-to-guides/workflows/tag-based-concurrency-limits": (1, 2, 3),
    "how-to-guides/workflows/test-workflows": (1, 2, 3, 5),
    "how-to-guides/workflows/visualize-workflow-structure": (2,),
    "how-to-guides/workflows/write-and-run": (1, 3, 4, 5, 6, 7, 8, 9, 10),
}
"""All that are whole programs and need no other packages, no services, no Prefect server, no deployments."""

FIRST_OF_PAGE: Final = {"examples/hello-world": 3, "examples/per-worker-task-concurrency": 5}
"""A page whose first blocks are one program: how many of them."""

ANSWER: Final = """
import threading as _threading, time as _time, os as _os
import flowdeck as _flowdeck
from flowdeck.store.opening import open_store as _open_store
_open_store(_os.environ["FLOWDECK_STORE"])
def _answer(answer=%r):
    from flowdeck.store.reader import Reader
    while True:
        with Reader(_os.environ["FLOWDECK_STORE"]) as reader:
            waiting = [run.id for run in reader.runs() if run.state_name == "AwaitingInput"]
        for run_id in waiting:
            _flowdeck.resume_flow_run(run_id, run_input=answer)
            return
        _time.sleep(0.05)
_threading.Thread(target=_answer, daemon=True).start()
"""
GREET: Final = """
import threading as _threading, time as _time, os as _os
import flowdeck as _flowdeck
from flowdeck.store.opening import open_store as _open_store
_open_store(_os.environ["FLOWDECK_STORE"])
@_flowdeck.flow
def _sender():
    from flowdeck.store.reader import Reader
    found = []
    while not found:
        with Reader(_os.environ["FLOWDECK_STORE"]) as reader:
            found = [run.id for run in reader.runs(flow="greeter") if run.state_name == "Running"]
        _time.sleep(0.05)
    receiver = _flowdeck.receive_input(str, timeout=20, poll_interval=0.1)
    _flowdeck.send_input("Marvin", flow_run_id=found[0])
    assert next(iter(receiver)) == "Hello, Marvin!"
    _flowdeck.send_input(EXIT_SIGNAL, flow_run_id=found[0])
_threading.Thread(target=_sender).start()
"""
USER: Final = ANSWER % ({"name": "Marvin", "age": 42},)
ORDER: Final = ANSWER % ({"size": "large", "color": "green"},)
LIMIT: Final = "import flowdeck as _f; _f.upsert_global_concurrency_limit_by_name(%r, 2, %r)\n"

BEFORE: Final[dict[tuple[str, int], str]] = {
    ("advanced/interactive", 4): "from flowdeck import pause_flow_run  # the page forgets it\n",
    ("advanced/interactive", 5): "from flowdeck import pause_flow_run  # the page forgets it\n",
    ("advanced/transactions", 4): "import uuid  # the page forgets it\n",
    ("how-to-guides/workflows/write-and-run", 5): "import random  # the page forgets it\n",
    **{("how-to-guides/workflows/global-concurrency-limits", n): LIMIT % ("database", None) for n in (1, 2, 3)},
    **{("how-to-guides/workflows/global-concurrency-limits", n): LIMIT % ("rate-limited-api", 5.0) for n in (5, 6, 7)},
    ("how-to-guides/workflows/global-concurrency-limits", 8): LIMIT % ("slow-my-flow", 20.0),
    ("how-to-guides/workflows/global-concurrency-limits", 10):
        'import flowdeck as _f; _f.upsert_global_concurrency_limit_by_name("data-processing", 5)\n',
    **{("how-to-guides/workflows/tag-based-concurrency-limits", n):
        'import flowdeck as _f; _f.create_concurrency_limit("database", 1)\n' for n in (1, 2, 3)},
    ("how-to-guides/configuration/store-secrets", 2):
        'from flowdeck import Secret as _Secret; _Secret(value="on the 15th").save("surprise-party")\n',
    ("how-to-guides/configuration/store-secrets", 3):
        'from flowdeck import Secret as _Secret; _Secret(value="on the 15th").save("surprise-party")\n',
    **{("how-to-guides/migrate/upgrade-to-prefect-3", n):
        'from flowdeck import Secret as _Secret; _Secret(value="on the 15th").save("my-secret")\n' for n in (8, 9)},
}
"""What a person does first on that page (limits, secrets), and imports the page forgets."""

AFTER: Final[dict[tuple[str, int], str]] = {
    ("advanced/caching", 1): "",
    ("advanced/caching", 6): "multi_task_cache(fail=False); multi_task_cache(fail=False)",
    ("advanced/interactive", 1): ANSWER % ("Marvin",) + "greet_user()",
    **{("advanced/interactive", n): USER + "import asyncio; asyncio.run(greet_user())" for n in (3, 4, 5, 6)},
    ("advanced/interactive", 8): ORDER + "get_shirt_order()",
    ("advanced/interactive", 9): ORDER + "get_shirt_order()",
    ("advanced/interactive", 16): GREET + "import asyncio; asyncio.run(greeter())",
    ("advanced/results", 7): "foo(); bar()",
    ("concepts/caching", 1): "assert my_cached_task(1) == 43",
    ("concepts/caching", 3): "assert my_cached_task(1) == my_cached_task(5) == 2",
    ("concepts/flows", 3): 'schleeb(1, "y")',
    ("concepts/runtime-context", 2): "",
    ("concepts/states", 3): "",
    ("concepts/task-runners", 3): "",
    ("how-to-guides/configuration/store-secrets", 1):
        'assert Secret.load("surprise-party").get() == "Marvin\'s surprise birthday party is on the 15th"',
    ("how-to-guides/configuration/store-secrets", 3): 'assert Secret.load("surprise-party").get().endswith("16th")',
    **{("how-to-guides/migrate/upgrade-to-prefect-3", n): "import asyncio; asyncio.run(my_async_function())"
       for n in (8, 9)},
    ("how-to-guides/workflows/access-runtime-info", 1): 'print(moody_workflow("Marvin"))',
    ("how-to-guides/workflows/access-runtime-info", 2): "",
    ("how-to-guides/workflows/add-logging", 4): """
my_flow()
from flowdeck.store.reader import Reader
with Reader(__import__("os").environ["FLOWDECK_STORE"]) as reader:
    run = reader.runs()[0]
    lines = {(line.message, line.task_seq) for line in reader.logs(run.id, 0, 100)}
assert {(f"Processing {n}", 1) for n in (1, 2, 3, 4)} <= lines, lines
""",
    ("how-to-guides/workflows/artifacts", 5): """
from flowdeck import Artifact
assert Artifact.get("personalized-reachout").type == "table"
""",
    ("how-to-guides/workflows/artifacts", 7): "assert my_retrieved_artifact is None",
    ("how-to-guides/workflows/cache-workflow-steps", 9): "assert my_task(1) == 2",
    ("how-to-guides/workflows/custom-metadata", 3): 'my_workflow("Marvin", datetime.datetime.now())',
    ("how-to-guides/workflows/custom-metadata", 4): 'my_workflow("Marvin")',
    ("how-to-guides/workflows/state-change-hooks", 4): """
failing = failing_flow(return_state=True)
assert failing.is_failed()
from flowdeck.store.reader import Reader
with Reader(__import__("os").environ["FLOWDECK_STORE"]) as reader:
    (event,) = [event for event in reader.events() if event.kind == "user"]
assert event.run_id == 1 and "my-app.flow-run.failure-handled" in event.message, event
""",
    ("how-to-guides/workflows/tag-based-concurrency-limits", 2): "data_pipeline()",
    ("how-to-guides/workflows/visualize-workflow-structure", 2): 'assert "-->" in diagram',
    ("how-to-guides/workflows/write-and-run", 9): "",
}
"""Calls of what the page only defines, where ``CALL_ALL`` does not do; and what must have come of it."""

CALL_ALL: Final = """
import asyncio as _asyncio, inspect as _inspect, os as _os
from flowdeck import Flow as _Flow, Task as _Task
from flowdeck.store.reader import Reader as _Reader
def _call(one):
    needs = [p for p in _inspect.signature(one.fn).parameters.values() if p.default is p.empty]
    if not needs:
        result = one()
        if _inspect.iscoroutine(result):
            _asyncio.run(result)
def _call_all():
    with _Reader(_os.environ["FLOWDECK_STORE"]) as reader:
        ran = {run.flow_name for run in reader.runs(roots_only=False)}
    ours = [one for one in list(globals().values()) if isinstance(one, (_Flow, _Task))]
    flows = [one for one in ours if isinstance(one, _Flow)]
    for one in flows or ([] if ran else ours):
        if one.name not in ran:
            _call(one)
from flowdeck.store.opening import open_store as _open_store
_open_store(_os.environ["FLOWDECK_STORE"])
_call_all()
"""
"""Every flow that the example defines and nothing called; in an example without flows and runs its tasks."""

TESTS: Final = {("how-to-guides/workflows/test-workflows", n) for n in (1, 2, 3, 5)}
"""Run by pytest."""

FAILS: Final[dict[tuple[str, int], str]] = {
    ("advanced/transactions", 1): "Not enough data!",
    ("advanced/transactions", 6): "Not enough data!",
    ("concepts/flows", 8): "I am bad task",
    ("concepts/states", 1): "I was instructed to fail.",
    ("how-to-guides/workflows/pass-inputs", 3): "name",
    ("how-to-guides/workflows/pass-inputs", 5): "a",
    ("how-to-guides/workflows/retries", 1): "oopsie daisy",
    ("how-to-guides/workflows/retries", 2): "oopsie daisy",
    ("how-to-guides/workflows/retries", 4): "We used to see each other so much more often",
    ("how-to-guides/workflows/retries", 5): "We used to see each other so much more often",
    ("how-to-guides/workflows/state-change-hooks", 3): "oops!",
    ("how-to-guides/workflows/write-and-run", 6): "took longer than 1 s",
    ("how-to-guides/workflows/write-and-run", 7): "took longer than 1 s",
}
"""Examples that are meant to fail, and the words they fail with."""

WHY: Final[dict[tuple[str, int], str]] = {
    ("advanced/transactions", 5): "`ResultStore` and `PREFECT_HOME`; SERIALIZABLE alone is enough here",
    ("how-to-guides/migrate/upgrade-to-prefect-3", 3): "the call raises when the flow returns a `Failed` state",
    ("concepts/tasks", 4): "`delay`: there are no task workers; the error says what to use",
}
"""Why one does not run; of any other the error is printed."""


class Outcome(NamedTuple):
    """What became of an example."""

    page: str
    number: int
    trouble: str | None
    """The last line of the error; None when it did what it should."""


def example(folder: Path, page: str, number: int) -> str:
    """The text of a block, its import lines changed."""
    blocks = [textwrap.dedent(text) for _, text in FENCE.findall((folder / f"{page}.mdx").read_text("utf-8"))]
    text = "\n".join(blocks[number - 1 : number - 1 + FIRST_OF_PAGE.get(page, 1)])
    for pattern, replacement in IMPORTS:
        text = pattern.sub(replacement, text)
    return text


def run(folder: Path, page: str, number: int) -> Outcome:
    """Run one example, in a folder and a store of its own."""
    which = (page, number)
    with tempfile.TemporaryDirectory(prefix="flowdeck-example-") as here:
        path = Path(here, "test_example.py" if which in TESTS else "example.py")
        after = "" if which in TESTS else AFTER.get(which, CALL_ALL)
        path.write_text(f"{BEFORE.get(which, '')}{example(folder, page, number)}\n{after}\n", encoding="utf-8")
        told = {"FLOWDECK_STORE": f"{here}/store", "FLOWDECK_SECRETS": f"{here}/secrets", "XDG_CONFIG_HOME": here}
        command = [sys.executable, *(["-m", "pytest", "-q", "-p", "no:cacheprovider"] if which in TESTS else ()), path]
        try:
            done = subprocess.run(
                command, cwd=here, env={**os.environ, "PYTHONPATH": str(PARENT), **told}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Outcome(page, number, f"took longer than {TIMEOUT_SECONDS} s")
    told_words = (done.stderr.strip() or done.stdout.strip()).splitlines()
    if (words := FAILS.get(which)) is not None:
        failed_so = done.returncode != 0 and words in "\n".join(told_words[-3:])
        return Outcome(page, number, None if failed_so else f"did not fail with {words!r}: {told_words[-1:]}")
    return Outcome(page, number, None if done.returncode == 0 else (told_words or ["no words"])[-1])


def table(outcomes: list[Outcome]) -> str:
    """The count and the table of docs/migrating-from-prefect.md."""
    ran = sum(outcome.trouble is None for outcome in outcomes)
    lines = [f"{ran} of {len(outcomes)} run as they stand.", "",
             "| page | run unchanged | not, and why |", "|---|---|---|"]
    for page in dict.fromkeys(outcome.page for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.page == page]
        good = ", ".join(str(outcome.number) for outcome in own if outcome.trouble is None)
        bad = "; ".join(f"{outcome.number}: {WHY.get((page, outcome.number), outcome.trouble)}"
                        for outcome in own if outcome.trouble is not None)
        lines.append(f"| {page} | {good} | {bad} |")
    return "\n".join(lines)


def main() -> int:
    """Run what the arguments name; 1 when an example that should run does not."""
    folder, page, number = (*sys.argv[1:4], None, None, None)[:3]
    if folder is None or not Path(folder, "advanced").is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    wanted = [(name, one) for name, numbers in EXAMPLES.items() for one in numbers
              if page in (None, name) and number in (None, str(one))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda which: run(Path(folder), *which), wanted))
    print(table(outcomes))
    return int(any(outcome.trouble is not None and outcome[:2] not in WHY for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
