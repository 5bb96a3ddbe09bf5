"""Classes and functions of the flow file itself, in stored values: named by the file's home, whatever runs it.

A script's are of ``__main__``, which pickle either cannot name or takes along as a copy: another class, in the next
process. Here they are named as the module that everybody else loads the file as (``system.code_home``), and a value
that names that module gets what the module in this process holds, be it ``__main__``. So a class is one class, whether
a script, ``flowdeck run``, a daemon or a file that has moved since wrote the value.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from ..system.code_home import CodeHome, home_of
from ..system.own_files import is_own

_MAIN: Final = frozenset({"__main__", "__mp_main__"})
_STAND_IN: Final = b"flow_file_"
_PUBLIC: Final = __name__.partition(".")[0]


class FlowModule(NamedTuple):
    """A module, and the home of the file that it was made of."""

    module: ModuleType
    home: CodeHome


_loaded: dict[str, FlowModule] = {}
"""What the loader made, by name."""
_of_process: list[FlowModule] = []
"""The one whose run this process is, where that is no script."""
_scripts: dict[tuple[int, str], FlowModule | None] = {}


def note(module: ModuleType, home: CodeHome) -> None:
    """A flow file was loaded as this module."""
    _loaded[module.__name__] = FlowModule(module, home)


def loaded_as(name: str) -> FlowModule | None:
    """The flow file that was loaded under this name."""
    return _loaded.get(name)


def enter(module: ModuleType) -> None:
    """From now on this process runs a flow of the module."""
    if (found := _loaded.get(module.__name__)) is not None:
        _of_process.append(found)


def leave(module: ModuleType) -> None:
    """It does not any more."""
    _of_process[:] = [one for one in _of_process if one.module is not module]


def of_process() -> FlowModule | None:
    """The flow file, or the script, that this process runs; None where no file holds its code."""
    return _of_process[-1] if _of_process else _script()


def name_of(value: Any) -> tuple[str, str] | None:
    """The name for the store of a script's own class or function; None where pickle's own way is right."""
    if not isinstance(value, (type, FunctionType)) or getattr(value, "__module__", None) not in _MAIN:
        return None
    script = of_process()
    if script is None or script.module is not sys.modules.get("__main__") or script.module.__name__ not in _MAIN:
        return None
    return (script.home.name, value.__qualname__) if _walk(script.module, value.__qualname__) is value else None


def find(module: str, name: str) -> Any:
    """What a stored value names, where that is of the file which this process runs; None where it is not."""
    found = of_process()
    return _walk(found.module, name) if found is not None and found.home.means(module) else None


def may_be_in(data: bytes) -> bool:
    """Whether a pickle may name something of the file which this process runs by another name than its module's."""
    found = of_process()
    if found is None:
        return False
    return _STAND_IN in data or (found.module.__name__ != found.home.name and found.home.name.encode() in data)


def _of_flow_file(module: str, name: str) -> Any:
    """In a stored value: the class or function of a flow file. It is found under this name for good."""
    found = find(module, name)
    if found is None:
        found = _walk(import_module(module), name)
    if found is None:
        raise AttributeError(f"the flow file {module} holds no {name} any more")
    return found


_of_flow_file.__module__ = _PUBLIC


def _walk(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _script() -> FlowModule | None:
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if main is None or not isinstance(path, str):
        return None
    key = id(main), path
    if key not in _scripts:
        _scripts[key] = _made_of(main, os.path.abspath(path))
    return _scripts[key]


def _made_of(main: ModuleType, path: str) -> FlowModule | None:
    if is_own(path) or not os.path.isfile(path):
        return None
    source = None
    with suppress(AttributeError, OSError):  # what has no such loader says nothing of its package
        source = main.__loader__.get_data(path)  # type: ignore[union-attr]
    return FlowModule(main, home_of(path, source))
