"""The options of ``@flow`` and ``@task`` before they mean anything: which ones there are, and what is no option."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..errors import UsageError

_ELSEWHERE: Final = {
    "asset_deps": "assets are not declared in code here",
    "result_serializer": "values are kept as JSON where they round-trip, else by cloudpickle",
    "result_storage": "results are kept in the store, large ones as files beside it",
    "viz_return_value": "`flowdeck run FILE --plan` shows what would run",
}
"""Prefect's options that say nothing here, and why."""


def check_options(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``UsageError`` with the nearest name for an option that there is not."""
    for name in given:
        if name not in known:
            from difflib import get_close_matches

            if name in _ELSEWHERE:
                raise UsageError(f"{what}: leave {name!r} out; {_ELSEWHERE[name]}")
            near = get_close_matches(name, list(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its options are {', '.join(sorted(known))}"
            raise UsageError(f"{what} has no option {name!r}; {hint}")


def own_doc(fn: Any) -> str | None:
    """The function's own docstring; ``inspect.getdoc`` would look into classes, and in methods find itself."""
    from inspect import cleandoc

    text = getattr(fn, "__doc__", None)
    return cleandoc(text) if isinstance(text, str) and text else None
