"""Import a flow file as ``python FILE`` would, and say what is wrong with it in words.

Promises: the file's own code runs once, under a module name that is the same for the same path in every process (so
that journalled values refer to the same classes), never as ``__main__``; every mistake of the user's file becomes a
``BrokenFlowFile`` that names the file, the line, the mistake and the remedy, and carries the traceback without our
frames. Bytecode caches are bypassed for the file itself: an edit within the same second is not missed.

Used by code hosts and the command line. It opens no database and starts nothing.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...store.trust import objection_to
from ..context import importing
from ..encoding.flow_file_objects import note
from ..errors import FlowdeckError
from ..secrets.masking import mask
from ..system.code_home import CodeHome, home_of, stand_in_name
from ..system.flow_files import BrokenFlowFile, hash_of, read_source
from ..system.own_files import ENGINE_FOLDER

if TYPE_CHECKING:
    from .flows import Flow

_PACKAGE: Final = __name__.partition(".")[0]
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_STANDARD_FOLDERS: Final = tuple({
    os.path.join(sysconfig.get_path(which), "") for which in ("stdlib", "platstdlib")
})  # fmt: skip


class FlowFile(NamedTuple):
    """A flow file that was imported."""

    path: str
    module: ModuleType
    flows: dict[str, Flow[..., Any]]
    """Flows written in this file, by name."""
    imported_flows: dict[str, Flow[..., Any]]
    """Flows it can name but that another file holds."""
    source_hash: str
    imports: tuple[str, ...]
    """Files that importing it brought in and that may change: all but installed ones."""


def find_flow(path: str, name: str | None = None) -> Flow[..., Any]:
    """The flow of that name in the file; without a name, the only one."""
    loaded = load_flow_file(path)
    candidates = {**loaded.imported_flows, **loaded.flows} if name is not None or not loaded.flows else loaded.flows
    if name is None:
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        if not candidates:
            raise BrokenFlowFile(f"{loaded.path}: holds no flow; decorate a function with @flow", path=loaded.path)
        raise BrokenFlowFile(f"{loaded.path}: holds {len(candidates)} flows, {', '.join(candidates)}; "
                             f"say which one, as in {os.path.basename(path)}:{next(iter(candidates))}",
                             path=loaded.path)
    if name in candidates:
        return candidates[name]
    for variable, value in vars(loaded.module).items():
        if variable == name and any(value is flow for flow in candidates.values()):
            return value  # type: ignore[no-any-return]
    known = f"it holds {', '.join(candidates)}" if candidates else "it holds none"
    raise BrokenFlowFile(f"{loaded.path}: holds no flow {name!r}; {known}", path=loaded.path)


def load_flow_file(path: str | os.PathLike[str]) -> FlowFile:
    """Import the file and find its flows; ``BrokenFlowFile`` says what is wrong with it."""
    absolute = os.path.abspath(path)
    source = _read(absolute)
    home = home_of(absolute, source)
    _make_importable(home)
    known = set(sys.modules)
    module = _execute(home, source)
    note(module, home)
    flows, imported = _flows_of(absolute, module)
    return FlowFile(absolute, module, flows, imported, hash_of(source),
                    tuple(_own_imports(set(sys.modules) - known - {module.__name__})))


def _make_importable(home: CodeHome) -> None:
    """As Python does for a script: its folder comes first, for a module of a package the package's root.

    The working folder, where ``python -m`` looks first, and within a package the file's folder come last: they hide
    nothing.
    """
    folder = os.path.dirname(home.path)
    first = home.package_root or folder
    if sys.path[:1] != [first]:
        sys.path.insert(0, first)
    last = [folder] if first != folder else []
    with suppress(OSError):  # the working folder was removed
        working = os.getcwd()
        if objection_to(working, is_folder=True) is None:
            last.append(working)
    sys.path.extend(one for one in last if one not in sys.path)


def _read(path: str) -> bytes:
    try:
        return read_source(path)
    except FileNotFoundError:
        raise BrokenFlowFile(f"{path}: there is no such file{_nearest(path)}", path=path) from None
    except OSError as error:
        text = f"{path}: cannot be read: {error.strerror}; mend that, or name another"
        raise BrokenFlowFile(text, path=path) from error


def _nearest(path: str) -> str:
    from difflib import get_close_matches

    folder, name = os.path.split(path)
    try:
        near = get_close_matches(name, [entry for entry in os.listdir(folder) if entry.endswith(".py")], n=1)
    except OSError:
        return f"; there is no folder {folder} either"
    return f"; did you mean {near[0]!r}?" if near else ""


def _execute(home: CodeHome, source: bytes) -> ModuleType:
    arguments, sys.argv = sys.argv, [home.path]
    token = importing.set(True)
    try:
        return _made(home, source)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _broken(home.path, error) from error
    finally:
        sys.argv = arguments
        importing.reset(token)


def _made(home: CodeHome, source: bytes) -> ModuleType:
    parent, _, last = home.name.rpartition(".") if home.package_root is not None else ("", "", "")
    was_there = home.name in sys.modules
    if parent:
        package = import_module(parent)
        if not was_there and _is_of(sys.modules.get(home.name), home):
            return sys.modules[home.name]  # the package imports it itself
    name = home.name if _is_free(home) else stand_in_name(home.path)
    spec = spec_from_file_location(
        name, home.path, loader=SourceFileLoader(name, home.path),
        submodule_search_locations=[os.path.dirname(home.path)] if home.path.endswith("__init__.py") else None,
    )  # fmt: skip
    assert spec is not None
    module = module_from_spec(spec)
    if home.package_root is None:
        module.__package__ = ""
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(source, home.path, "exec", dont_inherit=True), vars(module))  # noqa: S102  (running it is the point)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    if parent and name == home.name:
        setattr(package, last, module)
    return module


def _is_free(home: CodeHome) -> bool:
    """Whether no other file's module has the name."""
    there = sys.modules.get(home.name)
    return there is None or _is_of(there, home)


def _is_of(module: ModuleType | None, home: CodeHome) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and os.path.abspath(file) == home.path


def _flows_of(path: str, module: ModuleType) -> tuple[dict[str, Flow[..., Any]], dict[str, Flow[..., Any]]]:
    from .flows import Flow

    own: dict[str, Flow[..., Any]] = {}
    imported: dict[str, Flow[..., Any]] = {}
    for value in list(vars(module).values()):
        if not isinstance(value, Flow):
            continue
        place = own if getattr(value.fn, "__module__", module.__name__) == module.__name__ else imported
        first = place.setdefault(value.name, value)
        if place is own and first.fn is not value.fn:
            line = getattr(getattr(value.fn, "__code__", None), "co_firstlineno", None)
            raise BrokenFlowFile(f"{path}, line {line}: a second flow is named {value.name!r}; give one of them "
                                 "another name, as in @flow(name=…)", path=path, line=line)
    return own, imported


def _own_imports(names: Iterable[str]) -> Iterator[str]:
    """The files of those modules that are not installed: of the user's own projects, wherever they lie."""
    found = set()
    for name in names:
        file = getattr(sys.modules.get(name), "__file__", None) if name.partition(".")[0] != _PACKAGE else None
        if isinstance(file, str) and (path := _file_of(os.path.abspath(file))) is not None and not _is_installed(path):
            found.add(path)
    yield from sorted(found)


def _file_of(path: str) -> str | None:
    """The file itself, or the archive that it is in."""
    while not os.path.isfile(path):
        above = os.path.dirname(path)
        if above == path or os.path.isdir(path):
            return None
        path = above
    return path


def _is_installed(path: str) -> bool:
    """Whether the file is the standard library's or an installed package's: those change with an installation only."""
    return path.startswith(_STANDARD_FOLDERS) or not _INSTALLED.isdisjoint(path.split(os.sep))


def _broken(path: str, error: BaseException) -> BrokenFlowFile:
    """The user's mistake in words: place, what, and what to do about it."""
    place, line = _place(path, error)
    where = f"{place}, line {line}" if line is not None else place
    if isinstance(error, SyntaxError) and error.lineno is not None:
        text = f": {error.text.strip()}" if error.text and error.text.strip() else ""
        what = f"{error.msg}{text}; mend the line"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        what = f"no module named {error.name!r}; {_remedy(path, error.name)}"
    elif isinstance(error, ImportError) and "relative import" in str(error):
        what = (f"{error}; the file is in no package: put an __init__.py beside it, "
                "or import its neighbours by their names")
    elif isinstance(error, SystemExit):
        what = ('it ends the interpreter while it is imported; put what only a script does under '
                'if __name__ == "__main__":')
    elif isinstance(error, FlowdeckError):
        what = str(error)
    else:
        said = str(error).strip().partition("\n")[0]
        what = f"{type(error).__name__}{': ' + said if said else ''}; the file must import without an error"
    return BrokenFlowFile(mask(f"{where}: {what}"), path=path, line=line, traceback=mask(_users_traceback(error)))


def _remedy(path: str, module: str) -> str:
    """What to do about a missing module. No name to install is guessed: a module's may be a stranger's package."""
    top = module.partition(".")[0]
    folder = os.path.dirname(path)
    while True:
        for there in (os.path.join(folder, top), os.path.join(folder, f"{top}.py"), os.path.join(folder, "src", top)):
            if top in sys.modules and there == os.path.join(folder, top):
                break  # the package is found; it is its part that is missing
            if os.path.isfile(there) or os.path.isfile(os.path.join(there, "__init__.py")):
                root = os.path.dirname(there)
                return (f"{there} is not on the path: install your project for {sys.executable} "
                        f"(pip install -e, in its folder), or set PYTHONPATH={root}")
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    if top in sys.modules:
        return f"{top} itself is {getattr(sys.modules[top], '__file__', None) or 'found'}: mend the name"
    return f"install what holds it for {sys.executable}, or put {top}.py beside the flow file when it is yours"


def _place(path: str, error: BaseException) -> tuple[str, int | None]:
    """The deepest line that is the user's own: in the flow file or a module beside it."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno
    folder = os.path.join(os.path.dirname(path), "")
    place: tuple[str, int | None] = (path, None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if file == path or (file.startswith(folder) and not file.startswith(ENGINE_FOLDER)):
            place = (file, line)
    return place


def _users_traceback(error: BaseException) -> str:
    report = traceback.TracebackException.from_exception(error)
    seen: list[traceback.TracebackException] = [report]
    for part in seen:
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack
             if not frame.filename.startswith((ENGINE_FOLDER, "<frozen importlib"))])
        seen.extend(linked for linked in (part.__cause__, part.__context__) if linked is not None)
    return "".join(report.format())
