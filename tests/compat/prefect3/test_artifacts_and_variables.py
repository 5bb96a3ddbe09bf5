"""Artifacts, variables, secrets."""

from __future__ import annotations

import pytest

from .names import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
    flow,
    task,
)  # fmt: skip
from .records import artifacts


def test_a_markdown_artifact() -> None:
    """Kept with its key and description."""

    @flow(name="compat markdown")
    def makes():
        return create_markdown_artifact("# Report\n\nAll is well.", key="the-report", description="How it is")

    assert makes() is not None
    (found,) = artifacts("compat markdown")
    assert (found.kind, found.key, found.description) == ("markdown", "the-report", "How it is")
    assert "All is well." in found.data


def test_a_table_artifact_of_rows() -> None:
    """A list of dicts."""

    @flow(name="compat rows")
    def makes():
        create_table_artifact([{"name": "a", "count": 1}, {"name": "b", "count": 2}], key="rows")

    makes()
    (found,) = artifacts("compat rows")
    assert found.kind == "table"
    assert '"count": 2' in found.data


def test_a_table_artifact_of_columns() -> None:
    """A dict of lists."""

    @flow(name="compat columns")
    def makes():
        create_table_artifact({"name": ["a", "b"]}, key="columns")

    makes()
    (found,) = artifacts("compat columns")
    assert '["a", "b"]' in found.data


def test_a_link_artifact() -> None:
    """With its text."""

    @flow(name="compat link")
    def makes():
        create_link_artifact("https://example.com/x", link_text="the page", key="link")

    makes()
    (found,) = artifacts("compat link")
    assert "https://example.com/x" in found.data
    assert "the page" in found.data


def test_a_tasks_artifact() -> None:
    """Belongs to the run as well."""

    @task
    def makes():
        create_markdown_artifact("made by a task", key="of-a-task")

    @flow(name="compat task artifact")
    def parent():
        makes()

    parent()
    assert [found.key for found in artifacts("compat task artifact")] == ["of-a-task"]


def test_a_key_has_a_form() -> None:
    """Small letters, digits, dashes."""

    @flow
    def makes():
        with pytest.raises(Exception, match=r"key|pattern|lowercase|letters"):
            create_markdown_artifact("x", key="No Good Key")
        return "fine"

    assert makes() == "fine"


def test_the_same_key_again_keeps_history() -> None:
    """Both are there."""

    @flow(name="compat history")
    def makes():
        create_markdown_artifact("first", key="same-key")
        create_markdown_artifact("second", key="same-key")

    makes()
    assert sorted(found.data for found in artifacts("compat history")) == ["first", "second"]
