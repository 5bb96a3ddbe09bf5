"""What goes to a worker process and comes back: functions, arguments, results and exceptions as bytes.

What belongs to a module that the worker cannot import (a flow file, a test, a notebook) travels by value, as it is in
the run's process; everything else by name, as pickle does. Only the run's own processes open a parcel.
"""

from __future__ import annotations

import functools
import io
import pickle
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from ...encoding import codec, former_names
from ...errors import UsageError
from ...states.state import describe_exception
from . import flow_module

HEAD: Final = struct.Struct("!BIQ")
"""Before each message: its kind, the length of its header and that of its parcel."""
HELLO: Final = 1
SET_UP: Final = 2
RUN: Final = 3
RETURNED: Final = 4
RAISED: Final = 5
UNSENDABLE: Final = 6
CALL: Final = 7
"""From a worker: a task its code calls, to be run as a call of that task's."""
ANSWER: Final = 8
"""To a worker: what came of the call."""

_PARTS_OF_REDUCED: Final = 6
"""The last of which sets the state."""

_by_value: set[str] = set()


def message(kind: int, header: dict[str, Any], parcel: bytes = b"") -> tuple[bytes, bytes]:
    """A message's first part and its parcel, which may be long and is not copied."""
    first = pickle.dumps(header, protocol=5)
    return HEAD.pack(kind, len(first), len(parcel)) + first, parcel


def header_of(data: bytes) -> dict[str, Any]:
    """The header of a message."""
    header: dict[str, Any] = pickle.loads(data)  # noqa: S301 - written by this run's own processes
    return header


def pack_call(
    name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], author: Any = None
) -> bytes:
    """A call for a worker; ``UsageError`` names what cannot be sent, and the remedy.

    ``author`` is the user's own function where ``fn`` is one of ours around it.
    """
    _look_at_module(fn if author is None else author)
    try:
        return _pickled((fn, args, kwargs))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what the user's classes do
        what, reason = _culprit(args, kwargs, error)
        raise UsageError(
            f"task {name} cannot be given to a worker process: {what} cannot be pickled ({reason}); pass plain data, "
            "make it inside the task, or run the task in a thread"
        ) from None


def pack(value: Any) -> bytes:
    """Bytes of a value; raises whatever pickling it raises."""
    import cloudpickle

    former_names.make_findable()
    if flow_module.is_stand_in():  # what is the file's own goes back by its name
        file = io.BytesIO()
        codec.pickler()(file, protocol=5).dump(value)
        return file.getvalue()
    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data


def unpack(parcel: bytes) -> Any:
    """The value in a parcel; raises whatever its classes raise."""
    return pickle.loads(parcel)  # noqa: S301 - written by this run's own processes


def pack_error(error: BaseException) -> bytes:
    """An exception, tried here; raises when it cannot be sent at all.

    Many an exception pickles and does not unpickle, its constructor taking more than its ``args``: it goes in parts.
    """
    try:
        parcel = pack((error,))
        unpack(parcel)
    except BaseException:  # noqa: BLE001 - the user's class
        parcel = pack((type(error), error.args, error.__dict__))
        unpack_error(parcel)
    return parcel


def unpack_error(parcel: bytes) -> BaseException:
    """The exception that ``pack_error`` packed."""
    parts = unpack(parcel)
    if len(parts) == 1:
        whole: BaseException = parts[0]
        return whole
    kind, args, attributes = parts
    error: BaseException = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


def _culprit(args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException) -> tuple[str, str]:
    named = [(f"argument {number}", value) for number, value in enumerate(args, 1)]
    named += [(f"its argument {key!r}", value) for key, value in kwargs.items()]
    for what, value in named:
        try:
            pack(value)
        except (Exception, SystemExit) as broken:  # noqa: BLE001 - what the user's classes do
            return f"{what}, a {type(value).__name__},", describe_exception(broken)
    return "the function, or something it refers to,", describe_exception(error)


def _pickled(value: Any) -> bytes:
    """As ``pack``, what comes from a module of ``_by_value`` travelling whole.

    Not by cloudpickle's own register of such modules: the journal must go on naming a flow file's classes.
    """
    pickler = _pickler()
    former_names.make_findable()
    if pickler is None:
        return pack(value)
    with io.BytesIO() as file:
        pickler(file, protocol=5).dump(value)
        return file.getvalue()


@functools.cache
def _pickler() -> Callable[..., Any] | None:
    from cloudpickle import cloudpickle

    reduce_class: Any = getattr(cloudpickle, "_dynamic_class_reduce", None)
    if reduce_class is None or not hasattr(cloudpickle.Pickler, "_dynamic_function_reduce"):
        return None  # another cloudpickle than those known: what it does by itself must do

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            name = getattr(obj, "__module__", None)
            if name not in _by_value and name != flow_module.MAIN:
                return super().reducer_override(obj)
            if isinstance(obj, types.FunctionType):
                return _arriving(obj, self._dynamic_function_reduce(obj))
            if isinstance(obj, type):
                return _arriving(obj, reduce_class(obj))
            return super().reducer_override(obj)

    return Pickler


def _arriving(value: Any, reduced: Any) -> Any:
    """How a function or class travels: in the other process its module is to hold it."""
    if not isinstance(reduced, tuple) or len(reduced) != _PARTS_OF_REDUCED or reduced[5] is None:
        return reduced
    return (*reduced[:2], (reduced[5], reduced[2], value.__qualname__), None, None, _arrive)


def _arrive(value: Any, state: tuple[Callable[[Any, Any], Any], Any, str]) -> None:
    set_state, own, value.__qualname__ = state
    set_state(value, own)
    flow_module.has_arrived(value)


def _look_at_module(fn: Any) -> None:
    """Note the function's module when another process cannot import it by its name."""
    for inner in ("__func__", "__wrapped__", "func"):
        fn = getattr(fn, inner, fn)
    name = getattr(fn, "__module__", None)
    if not isinstance(name, str) or name in _by_value or name == "__main__":
        return
    module = sys.modules.get(name)
    if module is not None and (flow_module.is_of(name) or not _can_be_imported(name, module)):
        _by_value.add(name)


def _can_be_imported(name: str, module: Any) -> bool:
    """Whether a fresh interpreter with our ``sys.path`` finds this very module."""
    from importlib.machinery import PathFinder

    path: Any = None
    parts = name.split(".")
    for number in range(1, len(parts) + 1):
        whole = ".".join(parts[:number])
        found = PathFinder.find_spec(whole, path)
        if found is None:
            return whole in sys.builtin_module_names or _is_installed_specially(whole, module)
        path = found.submodule_search_locations
    origin = getattr(module, "__file__", None)
    return origin is None or found is None or found.origin == origin


def _is_installed_specially(name: str, module: Any) -> bool:
    """Found by another finder (frozen, an editable install)."""
    spec = getattr(module, "__spec__", None)
    loader = type(getattr(spec, "loader", None)).__name__
    if loader in ("BuiltinImporter", "FrozenImporter", "type"):
        return True
    for finder in sys.meta_path:
        if type(finder).__module__.startswith("__editable__") or "editable" in str(finder).lower():
            try:
                if finder.find_spec(name, None) is not None:
                    return True
            except (AttributeError, ImportError, TypeError):
                continue
    return False
