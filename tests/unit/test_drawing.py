"""The figure of a flow that is a function: calls are nodes, what they are given are edges, nothing runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flowdeck import flow, task
from flowdeck.engine.errors import UsageError


@task(name="Get")
def get(name: str) -> Any:
    raise AssertionError("it ran")


@task
async def later(value: Any) -> Any:
    raise AssertionError("it ran")


@flow(name="inner")
def inner(value: Any) -> Any:
    raise AssertionError("it ran")


def test_tasks_flows_and_maps() -> None:
    """In the order of the calls; waits are edges, too."""

    @flow
    def main(name: str = "x") -> None:
        first = get(name)
        child = inner(first)
        get.map([1, 2], wait_for=[get.submit(child)])

    assert main.generate_mermaid_graph().splitlines() == [
        "graph TD", '    n0["Get"]', '    n1["inner"]', '    n2["Get-2"]', '    n3["Get-3 (mapped)"]',
        "    n0 -->|value| n1", "    n1 -->|name| n2", "    n2 -.-> n3",
    ]  # fmt: skip


def test_async_code() -> None:
    """What is awaited is a node as well, alone and gathered."""

    @flow
    async def main() -> None:
        first = await later(1)
        await asyncio.gather(later(first), later(first))

    drawn = main.generate_mermaid_graph()
    assert drawn.count("-->|value|") == 2


def test_code_that_looks_into_a_value_cannot_be_drawn() -> None:
    """The error says so, and what to do."""

    @flow
    def main() -> None:
        if get("x") == 3:
            inner(1)

    with pytest.raises(UsageError, match=r"'main' cannot be drawn without running it.*graph in the console"):
        main.generate_mermaid_graph()
    with pytest.raises(TypeError, match="nosuch"):
        main.generate_mermaid_graph(nosuch=1)
