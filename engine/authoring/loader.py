"""Import a flow file as ``python FILE`` would, and say what is wrong with it in words.

Promises: the file's own code runs once, under a module name that is the same for the same path in every process (so
that journalled values refer to the same classes), never as ``__main__``; every mistake of the user's file becomes a
``BrokenFlowFile`` that names the file, the line, the mistake and the remedy, and carries the traceback without our
frames. Bytecode caches are bypassed for the file itself: an edit within the same second is not missed.

Used by code hosts and the command line. It opens no database and starts nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..context import importing
from ..errors import FlowdeckError
from ..secrets.masking import mask
from ..system.flow_files import FOREIGN_FOLDERS, BrokenFlowFile, hash_of, read_source
from ..system.own_files import ENGINE_FOLDER

if TYPE_CHECKING:
    from .flows import Flow


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
    """Paths of modules under the file's folder that importing it brought in."""


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
    folder = os.path.dirname(absolute)
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    known = set(sys.modules)
    module = _execute(absolute, source)
    flows, imported = _flows_of(absolute, module)
    return FlowFile(absolute, module, flows, imported, hash_of(source),
                    tuple(_local_imports(folder, set(sys.modules) - known - {module.__name__})))


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


def _execute(path: str, source: bytes) -> ModuleType:
    stem = re.sub(r"\W", "_", os.path.splitext(os.path.basename(path))[0])
    name = f"flow_file_{stem}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = path
    arguments, sys.argv = sys.argv, [path]
    token = importing.set(True)
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))  # noqa: S102  (running it is the point)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[name]
        raise _broken(path, error) from error
    finally:
        sys.argv = arguments
        importing.reset(token)
    return module


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


def _local_imports(folder: str, names: Iterable[str]) -> Iterator[str]:
    prefix = os.path.join(folder, "")
    for name in sorted(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            continue
        file = os.path.abspath(file)
        if file.startswith(prefix) and not FOREIGN_FOLDERS.intersection(file[len(prefix):].split(os.sep)):
            yield file


def _broken(path: str, error: BaseException) -> BrokenFlowFile:
    """The user's mistake in words: place, what, and what to do about it."""
    place, line = _place(path, error)
    where = f"{place}, line {line}" if line is not None else place
    if isinstance(error, SyntaxError) and error.lineno is not None:
        text = f": {error.text.strip()}" if error.text and error.text.strip() else ""
        what = f"{error.msg}{text}; mend the line"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        what = (f"no module named {error.name!r}; install it for {sys.executable} (pip install {package}), "
                f"or put {package}.py beside the flow file when it is yours")
    elif isinstance(error, SystemExit):
        what = ('it ends the interpreter while it is imported; put what only a script does under '
                'if __name__ == "__main__":')
    elif isinstance(error, FlowdeckError):
        what = str(error)
    else:
        said = str(error).strip().partition("\n")[0]
        what = f"{type(error).__name__}{': ' + said if said else ''}; the file must import without an error"
    return BrokenFlowFile(mask(f"{where}: {what}"), path=path, line=line, traceback=mask(_users_traceback(error)))


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
