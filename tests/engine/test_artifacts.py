"""Artifacts: durable when the call returns, with the run and task that made them."""

from __future__ import annotations

import json

import pytest
from flowdeck import (
    Artifact,
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    flow,
    task,
    update_progress_artifact,
)
from flowdeck.engine.errors import UsageError


def test_artifacts_are_there_when_the_call_returns(reader) -> None:
    """All three kinds; the name of the task stands in for a missing key."""
    counts = []

    @task
    def makes():
        create_markdown_artifact("# *Hi* \ud800", key="report-1", description="first")
        counts.append(len(reader.artifacts(1)))
        create_table_artifact([{"a": 1}, {"a": object}])
        create_link_artifact("https://example.org/", "there", key="link")

    @flow
    def whole():
        makes()
        return create_markdown_artifact("of the flow")

    assert whole() == 4
    assert counts == [1]
    rows = reader.artifacts(1)
    assert [(row.key, row.kind, row.task_seq) for row in rows] == [
        ("report-1", "markdown", 1), ("makes", "table", 1), ("link", "link", 1), ("whole", "markdown", None),
    ]  # fmt: skip
    assert rows[0].description == "first"
    assert json.loads(rows[1].data)[0] == {"a": 1}
    assert rows[2].data == "[there](https://example.org/)"


def test_what_is_no_artifact_is_refused(reader) -> None:
    """Keys have a form; tables can be written."""

    @flow
    def wrong():
        for key in ("Big", "a b", "", "-x", "ä"):
            with pytest.raises(UsageError, match="small letters, digits and dashes"):
                create_markdown_artifact("x", key=key)
        loop = []
        loop.append(loop)
        with pytest.raises(UsageError, match="no JSON form"):
            create_table_artifact(loop)

    wrong()


def test_images_and_progress(reader) -> None:
    """Progress moves in its row, within 0 and 100; the versions of a key stay."""

    @flow
    def whole(step):
        create_image_artifact("https://example.org/a.png", key="picture")
        progress = create_progress_artifact(step, key="loading", description="half")
        update_progress_artifact(progress, 150.5)
        update_progress_artifact(artifact_id=progress, progress=33.3, description="a third")
        for wrong in ("x", None, float("nan"), True):
            with pytest.raises(UsageError, match="number of percent"):
                update_progress_artifact(progress, wrong)
        return progress

    assert whole(0.5) == 2
    rows = reader.artifacts(1)
    assert [(row.key, row.kind, row.data, row.description) for row in rows] == [
        ("picture", "image", "https://example.org/a.png", None), ("loading", "progress", "33.3", "a third"),
    ]  # fmt: skip
    whole(-1)
    assert [row.run_id for row in reader.artifact_versions("loading")] == [2, 1]


def test_artifacts_work_in_async_flows(reader) -> None:
    """One function for both."""
    import asyncio

    @flow
    async def main():
        return create_table_artifact({"a": [1, 2]}, key="t")

    assert asyncio.run(main()) == 1


def test_outside_of_runs(store, reader, monkeypatch) -> None:
    """Stored without a run, the kind standing in for a missing key; secrets are masked there as well."""
    monkeypatch.setenv("FLOWDECK_SECRET_ART", "value-of-art-1234")
    assert create_table_artifact({"a": [1]}, key="outside", description="with value-of-art-1234") == 1
    create_markdown_artifact("text")
    progress = create_progress_artifact(10, key="loading")
    assert update_progress_artifact(progress, 50) == progress
    with pytest.raises(UsageError, match="small letters"):
        create_markdown_artifact("x", key="Big")

    @flow
    def main():
        create_markdown_artifact("inside", key="outside")

    main()
    assert [(row.run_id, row.key, row.kind, row.data) for row in reader.artifacts_by_key()] == [
        (1, "outside", "markdown", "inside"), (None, "loading", "progress", "50"),
        (None, "markdown", "markdown", "text"),
    ]  # fmt: skip
    assert reader.artifact_versions("outside")[1].description == "with ********"
    assert [row.key for row in reader.artifacts(1)] == ["outside"]


def test_artifacts_are_read_by_key(store) -> None:
    """The newest of a key with who made it and when; none is None; ``get_or_create`` makes the first."""
    assert Artifact.get("report") is None
    assert Artifact.get() is None

    @task
    def makes(text):
        create_markdown_artifact(text, key="report", description="how it is")
        return Artifact.get("report").data

    @flow
    def main():
        return makes("first"), makes("second")

    assert main() == ("first", "second")
    found = Artifact.get("report")
    assert (found.id, found.type, found.key, found.description, found.data) == (
        2, "markdown", "report", "how it is", "second",
    )  # fmt: skip
    assert (found.flow_run_id, found.task_run_id) == (1, "1/2")
    assert found.created.tzinfo is not None
    made, is_new = Artifact.get_or_create(key="numbers", type="table", data=[{"a": 1}])
    assert (is_new, made.id, json.loads(made.data)) == (True, 3, [{"a": 1}])
    assert Artifact.get_or_create(key="numbers")[1] is False
    assert Artifact(type="progress", key="bar", data=30).create().data == 30.0
    assert Artifact.get().key == "bar"


def test_artifacts_are_awaited_in_async_code(store) -> None:
    """Both ways, as Prefect's code has it."""
    import asyncio

    @flow
    async def main():
        plain = create_markdown_artifact("a", key="k")
        awaited = await create_markdown_artifact("b", key="k")
        return plain, awaited, (await Artifact.get("k")).data, (await Artifact.aget("k")).id

    assert asyncio.run(main()) == (1, 2, "b", 2)
