"""Prefect 1's caching said in cache policies: ``cache_for`` and its validators.

A validator says what must be equal for an earlier result to be taken: nothing but its age, the arguments, the flow's
parameters, or some of them. The entries are the engine's own (``caching``).
"""

from __future__ import annotations

import copy
import warnings
from datetime import timedelta
from typing import Any, Final

from ..authoring.cache_policies import CachePolicy, NoCache, hashable_parts
from ..encoding.stable_hash import stable_hash
from ..errors import UsageError

__all__ = [
    "Validator", "all_inputs", "all_parameters", "duration_only", "never_use", "partial_inputs_only",
    "partial_parameters_only",
]


class Validator(CachePolicy):
    """What must be equal for an earlier result to be taken."""

    def __init__(self, name: str, source: str | None, only: tuple[str, ...] | None = None) -> None:
        self.name = name
        self.source = source
        """Where the values are: ``inputs`` or ``parameters``; None when only the age counts."""
        self.only = only
        self.cache_key: str | None = None
        self.holds_task = True

    def sharing(self, cache_key: str | None) -> Validator:
        """The same for all tasks that share this key."""
        made = copy.copy(self)
        made.cache_key, made.holds_task = cache_key, cache_key is None
        return made

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any]  # noqa: ARG002 - as policies are
    ) -> str | None:
        """A hash of what must be equal."""
        values = {"inputs": inputs, "parameters": flow_parameters}.get(self.source or "", {})
        if self.only is not None:
            values = {name: value for name, value in values.items() if name in self.only}
        return stable_hash("prefect 1", self.name, self.cache_key, hashable_parts(values))

    def __call__(self, validate_on: list[str] | None = None) -> Validator:
        """``partial_inputs_only(validate_on=["x"])``: which of them count."""
        if not self.name.startswith("partial_"):
            raise TypeError(f"{self.name} takes no arguments here: say cache_validator={self.name}")
        return Validator(self.name, self.source, tuple(validate_on or ()))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.only))})" if self.only else self.name


duration_only: Final = Validator("duration_only", None)
"""Any result that is young enough."""
all_inputs: Final = Validator("all_inputs", "inputs")
"""One of the same arguments."""
all_parameters: Final = Validator("all_parameters", "parameters")
"""One of a run with the same parameters."""
partial_inputs_only: Final = Validator("partial_inputs_only", "inputs", ())
"""One where the named arguments are the same: ``partial_inputs_only(validate_on=["x"])``."""
partial_parameters_only: Final = Validator("partial_parameters_only", "parameters", ())
"""One of a run where the named parameters are the same."""
never_use: Final = NoCache()
"""None."""


def caching_options(what: str, classic: dict[str, Any]) -> dict[str, Any]:
    """The engine's options for ``cache_for``, ``cache_validator`` and ``cache_key``; none without ``cache_for``."""
    validator, lasts = classic.get("cache_validator"), classic.get("cache_for")
    if lasts is None:
        if validator is not None and validator is not never_use:
            warnings.warn(f"{what}: cache_validator without cache_for caches nothing", UserWarning, stacklevel=6)
        return {}
    if not isinstance(lasts, timedelta):
        raise TypeError(f"{what}: cache_for is a timedelta, not {lasts!r}")
    if validator is None:
        validator = duration_only
    if validator is never_use:
        return {}
    if not isinstance(validator, Validator):
        name = getattr(validator, "__name__", repr(validator))
        raise UsageError(
            f"{what}: the cache_validator {name} is a function of yours, which cannot look at stored states here: say "
            "what makes results equal as cache_key_fn=function(context, arguments), with cache_expiration"
        )
    return {"cache_policy": validator.sharing(classic.get("cache_key")), "cache_expiration": lasts}
