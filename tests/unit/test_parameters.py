"""A flow's parameters: bound, coerced by its hints, and refused in words that name what is wrong."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import pathlib
import uuid
from typing import Annotated, Literal, Optional

import pydantic
import pytest
from flowdeck import flow
from flowdeck.engine.authoring.parameters import preview_json, to_json
from flowdeck.engine.errors import ParameterError
from hypothesis import given
from hypothesis import strategies as st


class Person(pydantic.BaseModel):
    name: str
    age: int = 0


class Colour(enum.Enum):
    RED = "red"


@flow
def sample(
    day: datetime.date, count: int = 1, mode: Literal["fast", "slow"] = "fast", who: Person | None = None,
    colour: Colour = Colour.RED, where: pathlib.Path = pathlib.Path("/tmp"), free=None,
    small: Annotated[int, pydantic.Field(le=10)] = 1, maybe: Optional[float] = None,  # noqa: UP045 - as people write it
):
    pass


def test_values_become_what_the_hints_say() -> None:
    """As in Prefect, in pydantic's lax mode; what already fits stays the same object."""
    values = sample.validate_parameters(
        {"day": "2024-02-29", "count": "3", "mode": "slow", "who": {"name": "Ada"}, "colour": "red", "where": "/x",
         "free": "left", "maybe": "1.5"}
    )  # fmt: skip
    assert values["day"] == datetime.date(2024, 2, 29)
    assert (values["count"], values["mode"], values["maybe"]) == (3, "slow", 1.5)
    assert values["who"] == Person(name="Ada")
    assert (values["colour"], values["where"], values["free"]) == (Colour.RED, pathlib.Path("/x"), "left")
    person = Person(name="Bob")
    assert sample.validate_parameters({"day": datetime.date(2024, 1, 1), "who": person})["who"] is person


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"day": "yesterday"}, ["sample", "day", "yesterday", "date"]),
        ({"day": "2024-01-01", "count": "many"}, ["count", "integer", "many", "expected int"]),
        ({"day": "2024-01-01", "mode": "medium"}, ["mode", "fast", "slow", "medium"]),
        ({"day": "2024-01-01", "who": {"name": "A", "age": "old"}}, ["who.age", "old", "integer"]),
        ({"day": "2024-01-01", "small": 11}, ["small", "11", "10"]),
        ({"dya": "2024-01-01"}, ["no parameter 'dya'", "did you mean 'day'", "count: "]),
        ({}, ["missing", "'day'", "its parameters are"]),
        ({"day": "2024-01-01", "unrelated": 1}, ["no parameter 'unrelated'", "its parameters are"]),
    ],
)  # fmt: skip
def test_errors_name_parameter_value_and_remedy(values: dict, words: list[str]) -> None:
    """One line, without pydantic's addresses."""
    with pytest.raises(ParameterError) as caught:
        sample.validate_parameters(values)
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text
    assert "\n" not in text
    assert "pydantic.dev" not in text


def test_without_validation_values_pass_as_they_are() -> None:
    """``validate_parameters=False`` binds only."""

    @flow(validate_parameters=False)
    def loose(count: int = 1):
        pass

    assert loose.validate_parameters({"count": "x"}) == {"count": "x"}


def test_variadic_parameters_are_coerced_one_by_one() -> None:
    """``*args: int`` and ``**options: int``."""

    @flow
    def many(*numbers: int, **options: int):
        pass

    bound = many.parameters.bind(("1", 2), {"a": "3"})
    assert many.parameters.validate(bound) == {"numbers": (1, 2), "options": {"a": 3}}
    assert many.parameters.call_arguments({"numbers": (1, 2), "options": {"a": 3}}) == ((1, 2), {"a": 3})
    with pytest.raises(ParameterError, match="numbers"):
        many.parameters.validate({"numbers": ("x",), "options": {}})


def test_the_schema_serves_forms() -> None:
    """Types, defaults, choices and what is required."""
    schema = sample.parameters_schema()
    assert schema["required"] == ["day"]
    assert schema["properties"]["count"] == {"type": "integer", "default": 1}
    assert schema["properties"]["mode"]["enum"] == ["fast", "slow"]
    assert schema["properties"]["day"]["format"] == "date"
    json.dumps(schema)

    @flow
    def odd(thing: object, lock: object = print, call=print):
        pass

    json.dumps(odd.parameters_schema())


def test_a_hint_that_only_type_checkers_can_read_takes_anything() -> None:
    """``if TYPE_CHECKING: import pandas as pd`` is common; the other parameters keep what theirs say."""

    @flow
    def hinted(x: "Unknown", frame: "pd.DataFrame | None" = None, n: int = 0):  # noqa: F821, UP037
        pass

    given = {"x": object(), "frame": None, "n": "3"}
    assert hinted.validate_parameters(given) == {**given, "n": 3}
    properties = hinted.parameters_schema()["properties"]
    assert (properties["x"], properties["n"]["type"]) == ({}, "integer")
    with pytest.raises(ParameterError, match="'n'"):
        hinted.validate_parameters({**given, "n": "many"})


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_plain_parameters_round_trip_as_json(values: dict) -> None:
    """What a person or the daemon can give back."""
    assert json.loads(to_json(values) or "") == values


def test_what_has_no_json_form() -> None:
    """Known kinds become texts; the rest is None, and a preview for people to read."""
    values = {"day": datetime.date(2024, 1, 1), "path": pathlib.Path("/x"), "id": uuid.UUID(int=1),
              "price": decimal.Decimal("1.5"), "who": Person(name="A"), "colour": Colour.RED}  # fmt: skip
    assert json.loads(to_json(values) or "") == {
        "day": "2024-01-01", "path": "/x", "id": str(uuid.UUID(int=1)), "price": "1.5",
        "who": {"name": "A", "age": 0}, "colour": "red",
    }  # fmt: skip
    assert to_json({"x": object()}) is None
    assert "object" in json.loads(preview_json({"x": object()}))["x"]
