"""Where a call's arguments come from: the futures and tracked results in them, found at bounded cost, and their values.

Used by tasks and subflows alike. Nothing here waits or writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...states.state import State
from .futures import Future, FutureList

if TYPE_CHECKING:
    from .flow_run import FlowRun

_Settle = Callable[[Future[Any] | State, bool], Any]
_SCALARS = frozenset({int, str, float, bool, bytes, type(None)})
NUMBERS = frozenset({int, float, bool, type(None)})
"""Types whose values are nobody's in particular: passing one on draws no edge."""
_MAX_DEPTH = 6
_MAX_NESTED = 100_000


def collect_dependencies(
    run: FlowRun, parameters: dict[str, Any], wait_for: Any
) -> tuple[list[tuple[int, int, str]], list[Future[Any]]]:
    """Where arguments come from, (run, seq, kind) each, and which futures among them have not ended."""
    collector = _Collector(run)
    for value in parameters.values():
        collector.visit(value, "data", 0)
    if wait_for is not None:
        collector.visit(wait_for if isinstance(wait_for, Future) else list(wait_for), "wait", 0)
    return [(*origin, kind) for origin, kind in collector.origins.items()], collector.waiting


class _Collector:
    """Looks for futures and tracked results in arguments, at bounded cost."""

    def __init__(self, run: FlowRun) -> None:
        self.lineage = run.lineage
        self.origins: dict[tuple[int, int], str] = {}
        self.waiting: list[Future[Any]] = []
        self._left = _MAX_NESTED

    def visit(self, value: Any, edge_kind: str, depth: int) -> None:
        kind = type(value)
        if kind in _SCALARS and kind is not str:
            return
        if issubclass(kind, Future):
            if not value.done():
                self.waiting.append(value)
            if (place := value.place) is not None:
                self.origins.setdefault(place, edge_kind)
            return
        origin = self.lineage.origin(value)
        if origin is not None:
            self.origins.setdefault(origin, edge_kind)
        if kind is str or depth >= _MAX_DEPTH or self._left <= 0:
            return
        items = _children(value, kind)
        if items is not None:
            self._left -= len(items) if depth else 0
            for item in items:
                self.visit(item, edge_kind, depth + 1)


def replace_futures(
    parameters: dict[str, Any], wait_for: Any, *, forgiving: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Arguments with ended futures replaced by their values, and which upstream outcome forbids to start.

    With ``forgiving`` none does: what failed is replaced by its exception.
    """
    broken: list[str] = []

    def settle(source: Future[Any] | State, allow_failure: bool) -> Any:
        future = source if isinstance(source, Future) else None
        if future is not None and future.has_completed:
            return future.value
        state = source.outcome if isinstance(source, Future) else source
        assert state is not None  # the call was started only once its upstream had ended
        if state.is_completed():
            return state.data
        if allow_failure:
            if future is not None:
                future.handled = True
            return state.result(raise_on_failure=False)
        if future is not None:
            future.passed_on = True
        call = future.call if future is not None else None
        broken.append(f"{call.name if call is not None else 'a task'} ended {state.name}")
        return None

    values = {name: _replace(value, settle, 0, forgiving) for name, value in parameters.items()}
    if wait_for is not None:
        _replace(wait_for if isinstance(wait_for, Future) else list(wait_for), settle, 0, forgiving)
    return values, broken


def _children(value: Any, kind: type) -> Any:
    if kind is list or kind is tuple or kind is FutureList or kind is set or kind is frozenset:
        return value
    if issubclass(kind, dict):
        return [*value.values(), *(key for key in value if type(key) not in _SCALARS)]
    wrapped = getattr(kind, "flowdeck_wrapped", None)
    if wrapped is not None:
        if wrapped == "opaque":
            return [value.value] if isinstance(value.value, (Future, State)) else None
        return [value.value] if wrapped != "quote" else None
    if hasattr(kind, "__dataclass_fields__"):
        return [getattr(value, name, None) for name in kind.__dataclass_fields__]
    if hasattr(kind, "__pydantic_fields__"):
        return [getattr(value, name, None) for name in kind.__pydantic_fields__]
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return value
    return None


def _replace(value: Any, settle: _Settle, depth: int, allow_failure: bool = False) -> Any:
    """``value`` with futures replaced by what they came to; the same object when it holds none."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if issubclass(kind, Future):
        return settle(value, allow_failure)
    if issubclass(kind, State):
        return settle(value.plain(), allow_failure)
    wrapped = getattr(kind, "flowdeck_wrapped", None)
    if wrapped == "quote" or (wrapped == "opaque" and not isinstance(value.value, (Future, State))):
        return value.value
    if wrapped is not None:
        return _replace(value.value, settle, depth, wrapped == "allow_failure" or allow_failure)
    if depth >= _MAX_DEPTH:
        return value
    if kind is FutureList:
        return [settle(future, allow_failure) for future in value]
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        items = [_replace(item, settle, depth + 1, allow_failure) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else kind(items)
    if issubclass(kind, dict):
        return _replace_in_dict(value, kind, settle, depth + 1, allow_failure)
    return _replace_in_record(value, kind, settle, depth + 1, allow_failure)


def _replace_in_dict(value: Any, kind: type, settle: _Settle, depth: int, allow_failure: bool) -> Any:
    """As ``_replace``, for dicts of any class: the keys, too."""
    pairs = [
        (key if type(key) in _SCALARS else _replace(key, settle, depth, allow_failure),
         _replace(item, settle, depth, allow_failure))
        for key, item in value.items()
    ]  # fmt: skip
    if all(new is key and item is old for (new, item), (key, old) in zip(pairs, value.items(), strict=True)):
        return value
    if kind is dict:
        return dict(pairs)
    import copy

    changed = copy.copy(value)
    changed.clear()
    changed.update(pairs)
    return changed


def _replace_in_record(
    value: Any, kind: type, settle: _Settle, depth: int, allow_failure: bool
) -> Any:
    """As ``_replace``, for dataclasses, pydantic models (a copy, when something in it changes) and named tuples."""
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__pydantic_fields__"):
        names = getattr(kind, "__dataclass_fields__", None) or kind.__pydantic_fields__  # type: ignore[attr-defined]
        old = {name: getattr(value, name, None) for name in names}
        new = {name: _replace(item, settle, depth, allow_failure) for name, item in old.items()}
        changed = {name: item for name, item in new.items() if item is not old[name]}
        if changed:
            import copy

            value = copy.copy(value)
            for name, item in changed.items():
                if hasattr(kind, "__dataclass_fields__"):
                    object.__setattr__(value, name, item)  # also where the class is frozen
                else:
                    value.__dict__[name] = item
    elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
        items = [_replace(item, settle, depth, allow_failure) for item in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return kind(*items)
    return value
