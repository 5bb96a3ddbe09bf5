"""Artifacts, variables, secrets."""

from __future__ import annotations

from uuid import uuid4

import pytest

from .names import (
    Variable,
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    flow,
    task,
    update_progress_artifact,
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


def test_an_image_artifact() -> None:
    """By its address."""

    @flow(name="compat image")
    def makes():
        create_image_artifact(image_url="https://example.com/x.png", key="image")

    makes()
    (found,) = artifacts("compat image")
    assert found.kind == "image"
    assert found.data == "https://example.com/x.png"


def test_a_progress_artifact_moves() -> None:
    """It is updated in place."""

    @flow(name="compat progress")
    def makes():
        progress = create_progress_artifact(progress=0.0, key="progress")
        update_progress_artifact(artifact_id=progress, progress=50.0)
        update_progress_artifact(artifact_id=progress, progress=100.0)

    makes()
    found = artifacts("compat progress")
    assert len(found) == 1
    assert float(found[0].data) == 100.0


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


def test_a_variable_is_set_and_got() -> None:
    """By name."""
    name = f"v_{uuid4().hex}"
    Variable.set(name, "value")
    assert Variable.get(name) == "value"


@pytest.mark.parametrize("value", [1, 1.5, True, None, "text", [1, 2], {"a": {"b": [1]}}])
def test_a_variable_holds_json(value) -> None:
    """Of any form."""
    name = f"v_{uuid4().hex}"
    Variable.set(name, value)
    assert Variable.get(name) == value


def test_a_variable_that_there_is_not() -> None:
    """None, or the default given."""
    assert Variable.get(f"v_{uuid4().hex}") is None
    assert Variable.get(f"v_{uuid4().hex}", default="default") == "default"


def test_a_variable_is_not_overwritten_by_mistake() -> None:
    """Only when asked to."""
    name = f"v_{uuid4().hex}"
    Variable.set(name, "first")
    with pytest.raises(ValueError, match="overwrite"):
        Variable.set(name, "second")
    Variable.set(name, "second", overwrite=True)
    assert Variable.get(name) == "second"


def test_a_variable_is_removed() -> None:
    """And says whether it was there."""
    name = f"v_{uuid4().hex}"
    Variable.set(name, 1)
    assert Variable.unset(name) is True
    assert Variable.get(name) is None
    assert Variable.unset(name) is False


def test_a_variables_name_has_a_form() -> None:
    """Small letters, digits, underscores (dashes too)."""
    with pytest.raises(Exception, match=r"name|lowercase|letters"):
        Variable.set("No Good Name!", 1)


def test_variables_in_a_flow() -> None:
    """Flows and tasks read them."""
    name = f"v_{uuid4().hex}"
    Variable.set(name, 20)

    @task
    def reads():
        return Variable.get(name) + 1

    @flow
    def parent():
        return Variable.get(name) + reads()

    assert parent() == 41
