"""The home of a flow file's code: the one name by which its module is known, in whatever process and folder.

The name is what Python itself would give the file: its stem, or within a package the dotted path from the package's
root. It holds no folder above that, so what was stored of a file's classes is found when the file has moved, and a
child process finds the module by the path that it inherits. Only a file that Python cannot import under its own name
(``queue.py``, ``my.flow.py``) is given another, in our package. Nothing here imports a user's file.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any, Final, NamedTuple

from .own_files import PACKAGE_FOLDER

ENVIRONMENT_VARIABLE: Final = "FLOWDECK_CODE_HOME"
"""In the environment of a run: ``NAME=PATH`` of its flow file's module, for processes that its code starts."""
_PACKAGE: Final = __name__.partition(".")[0]
_RELATIVE: Final = re.compile(rb"^[ \t]*from[ \t]+(\.+)[\w.]*[ \t]+import\b", re.MULTILINE)
_STAND_IN: Final = re.compile(rf"(?:{_PACKAGE}\.)?flow_file_(\w+)_[0-9a-f]{{8}}")


class CodeHome(NamedTuple):
    """Where code is at home."""

    name: str
    """Of the module."""
    path: str
    package_root: str | None
    """The folder that the outermost package of the file stands in; None for a file of no package."""

    def means(self, module: str) -> bool:
        """Whether a stored value that names this module means this file, be it by a name of another version's."""
        if module == self.name:
            return True
        found = _STAND_IN.fullmatch(module)
        return found is not None and found[1] == _word(_stem(self.path))


def home_of(path: str, source: bytes | None = None) -> CodeHome:
    """The home of a file; ``source`` tells which folder is its package where no ``__init__.py`` says so."""
    path = os.path.abspath(path)
    folder, stem = os.path.dirname(path), _stem(path)
    parts = [] if stem == "__init__" else [stem]
    root = folder
    dots = max((len(found) for found in _RELATIVE.findall(source)), default=0) if source is not None else 0
    while _is_package(root) or len(parts) - 1 < dots:
        name = os.path.basename(root)
        if not name or "." in name:
            break
        parts.insert(0, name)
        root = os.path.dirname(root)
    if not parts or not path.endswith(".py") or _is_reserved(parts[0]) or "." in stem or parts == ["__main__"]:
        return CodeHome(stand_in_name(path), path, None)
    return CodeHome(".".join(parts), path, root if root != folder else None)


def stand_in_name(path: str) -> str:
    """The name of a file whose own one is taken, or none. Importing it imports our package, which then finds it."""
    from hashlib import sha256  # loads OpenSSL, which few runs need

    return f"{_PACKAGE}.flow_file_{_word(_stem(path))}_{sha256(path.encode()).hexdigest()[:8]}"


def tell_children(name: str, path: str) -> None:
    """Have processes that this one starts find the module."""
    os.environ[ENVIRONMENT_VARIABLE] = f"{name}={path}"


def find_in_child() -> None:
    """In a process that a run's code started: have the module of its flow file found, and executed only once.

    ``multiprocessing`` executes the file as ``__mp_main__``: that is the module then. Everything else is found as
    ever, and only what is not found otherwise is looked for at the path.
    """
    name, equals, path = os.environ.get(ENVIRONMENT_VARIABLE, "").partition("=")
    if equals and name not in sys.modules and not any(isinstance(finder, _AsMain) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AsMain(name, path))
        sys.meta_path.append(_ByPath(name, path))


class _AsMain:
    """Finds the module where ``multiprocessing`` has executed the file already."""

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path
        self._spec: Any = None

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """For the import system."""
        if name != self._name:
            return None
        main = sys.modules.get("__mp_main__")
        file = getattr(main, "__file__", None)
        if main is None or file is None or os.path.abspath(file) != self._path:
            return None
        return ModuleSpec(name, self, origin=file)  # type: ignore[arg-type]  # by shape

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        """The one that is there."""
        main = sys.modules["__mp_main__"]
        self._spec = main.__spec__
        return main

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed; it goes on as what it was."""
        module.__spec__ = self._spec


class _ByPath:
    """Finds the module of a file that Python cannot import under a name of its own."""

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """For the import system."""
        if name != self._name or not os.path.isfile(self._path):
            return None
        return spec_from_file_location(name, self._path, loader=SourceFileLoader(name, self._path))


def _is_package(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "__init__.py")) and not f"{folder}{os.sep}".startswith(PACKAGE_FOLDER)


def _is_reserved(name: str) -> bool:
    return name in sys.stdlib_module_names or name == _PACKAGE


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _word(stem: str) -> str:
    return re.sub(r"\W", "_", stem)
