"""docs/migrating-from-prefect.md tells the truth: what it calls "same" is here, what it calls "not here" is not."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import flowdeck
import pytest
from flowdeck import Flow, Task
from flowdeck.engine.authoring.authored import option_names
from flowdeck.engine.authoring.flows import FunctionFlow
from flowdeck.engine.authoring.tasks import CLASSIC_OPTIONS

TEXT = (Path(__file__).parents[2] / "docs" / "migrating-from-prefect.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \|(?: [^|]* \|)*? (same|not here) \|", re.MULTILINE)


def rows(title: str) -> list[tuple[str, str]]:
    """(name, same or not here) of the table below this heading."""
    below = TEXT.split(f"### {title}\n", 1)[1]
    return ROW.findall(re.split(r"^##", below, maxsplit=1, flags=re.MULTILINE)[0])


NAME_PART = TEXT.split("## Prefect 3: names")[1].split("### Options of @flow")[0]
NAME_TABLES = re.findall(r"^### (.+)$", NAME_PART, re.MULTILINE)
NAMES = [row for title in NAME_TABLES for row in rows(title)]
CLASSIC = ROW.findall(TEXT.split("## Prefect 1: names")[1].split("\n## ")[0])


def test_the_tables_are_there() -> None:
    """Enough rows were read for the tests below to mean something."""
    assert len(NAMES) > 80
    assert len(CLASSIC) > 15


@pytest.mark.parametrize("name", [name for name, here in NAMES if here == "same"])
def test_same_names_are_importable(name: str) -> None:
    """From the one namespace, and listed there."""
    assert hasattr(flowdeck, name)
    assert name in flowdeck.__all__


@pytest.mark.parametrize("name", [name for name, here in NAMES if here == "not here"])
def test_other_names_are_not(name: str) -> None:
    """So that a feature that was added is not denied."""
    assert not hasattr(flowdeck, name)


@pytest.mark.parametrize("name", [name for name, here in CLASSIC if here == "same" and name.isidentifier()])
def test_prefect_1_names_are_importable(name: str) -> None:
    """From the same namespace."""
    assert hasattr(flowdeck, name)


@pytest.mark.parametrize("module", ["executors", "runtime", "schedules", "signals", "state", "triggers"])
def test_modules_that_the_page_names(module: str) -> None:
    """They can be imported."""
    assert f"flowdeck.{module}" in TEXT
    import_module(f"flowdeck.{module}")


@pytest.mark.parametrize(
    ("title", "known"),
    [("Options of @flow", option_names(FunctionFlow)), ("Options of @task", option_names(Task) | CLASSIC_OPTIONS)],
)
def test_options(title: str, known: frozenset[str]) -> None:
    """Same ones are taken, others are refused."""
    found = rows(title)
    assert len(found) > 15
    assert {name for name, here in found if here == "same"} <= known
    assert not {name for name, here in found if here == "not here"} & known


@pytest.mark.parametrize(("title", "kind"), [("Methods of a flow", Flow), ("Methods of a task", Task)])
def test_methods(title: str, kind: type) -> None:
    """Same ones are there."""
    found = rows(title)
    assert len(found) > 6
    assert all(hasattr(kind, name) for name, here in found if here == "same")
    assert not any(hasattr(kind, name) for name, here in found if here == "not here")


def documentation_runner() -> ModuleType:
    """tests/compat/run_documentation.py, a script that needs Prefect's documentation to do more than this."""
    spec = spec_from_file_location("run_documentation", Path(__file__).with_name("run_documentation.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documentation_examples_are_those_of_the_runner() -> None:
    """Each page and number of the table is one it runs, the reasons are its reasons, and the count is the table's."""
    runner, text = documentation_runner(), TEXT.split("## Documentation examples tried")[1]
    table = re.findall(r"^\| ([a-z-]+/[a-z0-9/-]+) \| ([0-9, ]*) \| (.*) \|$", text, re.MULTILINE)
    ran = {(page, int(number)) for page, good, _ in table for number in re.findall(r"\d+", good)}
    why = {(page, int(number)): words for page, _, bad in table
           for number, words in re.findall(r"(?:^|; )(\d+): ([^;]+(?:; [^\d;][^;]*)*)", bad)}
    tried = {(page, number) for page, numbers in runner.EXAMPLES.items() for number in numbers}
    assert ran | set(why) == tried
    assert not ran & set(why)
    assert {place: words.strip() for place, words in why.items()} == runner.WHY
    assert f"{len(ran)} of {len(tried)} run as they stand" in text
