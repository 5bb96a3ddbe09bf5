"""The tasks that compute with what other tasks give: ``total = extract() + transform(x)[0]`` in a drawn flow."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from ..authoring.tasks import Task

COMPUTATIONS: Final[dict[str, Callable[..., Any]]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "Pow": operator.pow, "Equal": operator.eq,
    "NotEqual": operator.ne, "GreaterThan": operator.gt, "GreaterThanOrEqual": operator.ge, "LessThan": operator.lt,
    "LessThanOrEqual": operator.le, "And": lambda x, y: x and y, "Or": lambda x, y: x or y,
    "GetItem": operator.getitem, "Not": operator.not_,
}
"""Prefect 1's names of the tasks that compute."""


@lru_cache(maxsize=len(COMPUTATIONS))
def computing(name: str) -> Task[..., Any]:
    """The task of that name among ``COMPUTATIONS``."""
    compute = COMPUTATIONS[name]

    def pair(x: Any, y: Any) -> Any:
        return compute(x, y)

    def one(x: Any) -> Any:
        return compute(x)

    return Task(one if name == "Not" else pair, name=name)
