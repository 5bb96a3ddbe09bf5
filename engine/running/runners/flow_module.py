"""The flow file's module in a worker process: a stand-in that holds what has been sent of it.

Functions and classes of the file (or script) travel by value, with whatever its globals were made to hold; the file is
not run again for each task. What they start in turn (a pool, a pickle) names them by their module, so here it stands
under its name and as ``__main__``, with what came. What is asked of it and has not come is read from the file.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any, NamedTuple

from ...context import importing
from ...encoding import flow_file_objects

MAIN = "__main__"


class Described(NamedTuple):
    """What a worker is told of the module."""

    name: str
    path: str
    package: str | None
    spec_name: str | None
    """As what ``multiprocessing`` runs it in processes that it starts; None: by its path."""


def describe() -> Described | None:
    """The module of the flow file, or script, that this process runs."""
    found = flow_file_objects.of_process()
    if found is None:
        return None
    module, spec = found.module, getattr(found.module, "__spec__", None)
    return Described(
        module.__name__, os.path.abspath(str(module.__file__)), getattr(module, "__package__", None),
        spec.name if spec is not None else None,
    )  # fmt: skip


def stand_in(told: Described | None) -> None:
    """In a worker: have the module stand where code looks for it."""
    if told is None:
        return
    module = _FlowModule(told)
    sys.modules[MAIN] = sys.modules["__mp_main__"] = sys.modules[told.name] = module


def has_arrived(value: Any) -> None:
    """A function or class of the file has been made here: it is what its module holds under its name."""
    module = sys.modules.get(value.__module__)
    if isinstance(module, _FlowModule) and "." not in value.__qualname__ and value.__qualname__.isidentifier():
        vars(module)[value.__qualname__] = value


def is_stand_in() -> bool:
    """Whether this is a worker, where the module is a stand-in."""
    return isinstance(sys.modules.get(MAIN), _FlowModule)


def is_of(name: str) -> bool:
    """Whether a module is that of the flow file, or script, which this process runs."""
    found = flow_file_objects.of_process()
    return found is not None and found.module.__name__ == name


class _FlowModule(ModuleType):
    """Filled as things arrive, and from the file when something else is asked for."""

    def __init__(self, told: Described) -> None:
        super().__init__(told.name)
        self.__file__ = told.path
        self.__package__ = told.package
        self.__spec__ = ModuleSpec(told.spec_name, None, origin=told.path) if told.spec_name is not None else None
        self.__dict__["_is_read"] = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__dict__["_is_read"]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__["_is_read"] = True
        for key, value in _read(self).items():
            self.__dict__.setdefault(key, value)
        return getattr(self, name)


def _read(module: ModuleType) -> dict[str, Any]:
    """What the file holds, its ``if __name__ == "__main__"`` block left out."""
    path = str(module.__file__)
    names = {
        "__name__": "__mp_main__" if module.__name__ == MAIN else module.__name__, "__file__": path,
        "__package__": module.__package__, "__spec__": module.__spec__, "__builtins__": __builtins__,
    }  # fmt: skip
    token = importing.set(True)
    try:
        source = SourceFileLoader(module.__name__, path).get_data(path)
        exec(compile(source, path, "exec", dont_inherit=True), names)  # noqa: S102 - the run's own code
    finally:
        importing.reset(token)
    return names
