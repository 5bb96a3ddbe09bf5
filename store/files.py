"""Files and folders of a store beside its databases: the one way to make, open, rename and remove them.

Promises: nothing is opened through a link, at any depth; a path stays within the store, wherever it came from (a row's
too); what is opened is a regular file that nobody but trusted users could have written (``trust``); what is made is for
its owner alone, whatever the umask, and belongs to the store's owner when root works for him. What the operating system
says is an ``OSError`` that names the whole path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from . import trust
from .errors import StoreError, StoreUntrusted

Folder = str | os.PathLike[str]
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_COPY_BYTES: Final = 1 << 20


def open_to_read(folder: Folder, path: str) -> int:
    """A descriptor to read a file with; ``FileNotFoundError`` when there is none."""
    return _open(folder, path, os.O_RDONLY)


def open_to_append(folder: Folder, path: str) -> int:
    """A descriptor whose writes go to the end of a file, which is made, with its folders, when there is none."""
    return _open_or_make(folder, path, os.O_WRONLY | os.O_APPEND)


def open_to_write(folder: Folder, path: str) -> int:
    """A descriptor to read and write a file, which is made when there is none; its content stays."""
    return _open_or_make(folder, path, os.O_RDWR)


def make(folder: Folder, path: str) -> int:
    """A descriptor to read and write a new file; ``FileExistsError`` when there is one. Its folders are made, too."""
    with _parent(folder, path, making=True) as (place, name):
        return _make(folder, path, place, name, os.O_RDWR)


def make_folder(folder: Folder, path: str) -> None:
    """Make a folder, and those above it within the store; one that is there already must be the store's own."""
    with _parent(folder, os.path.join(path, "."), making=True):
        return


def make_store(folder: Folder) -> None:
    """Make the store's own folder, those above it too; ``FileExistsError`` when something is there."""
    os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
    os.mkdir(folder, FOLDER_MODE)
    os.chmod(folder, FOLDER_MODE)  # whatever the umask says


def read(folder: Folder, path: str) -> bytes:
    """All of a file."""
    with open(open_to_read(folder, path), "rb") as file:
        return file.read()


def link(folder: Folder, source: str, target: str) -> None:
    """Another name for a file, with a life of its own; a copy where the file system knows no such links."""
    with _parent(folder, source) as (place, name), _parent(folder, target, making=True) as (new_place, new_name):
        descriptor = _opened(folder, source, place, name, os.O_RDONLY)
        try:
            os.link(name, new_name, src_dir_fd=place, dst_dir_fd=new_place, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:
            copy = _make(folder, target, new_place, new_name, os.O_WRONLY)
            try:
                while data := os.read(descriptor, _COPY_BYTES):
                    while data:
                        data = data[os.write(copy, data) :]
                os.fsync(copy)
            finally:
                os.close(copy)
        finally:
            os.close(descriptor)


def rename(folder: Folder, source: str, target: str) -> None:
    """Give a file another name, in place of one that has it."""
    with _parent(folder, source) as (place, name), _parent(folder, target) as (new_place, new_name):
        os.replace(name, new_name, src_dir_fd=place, dst_dir_fd=new_place)


def remove(folder: Folder, path: str) -> bool:
    """Remove a file, or a link in its place; says whether there was one."""
    try:
        with _parent(folder, path) as (place, name):
            os.unlink(name, dir_fd=place)
    except FileNotFoundError:
        return False
    return True


def names(folder: Folder, path: str) -> list[str]:
    """What is in a folder; nothing when there is none."""
    try:
        with _parent(folder, os.path.join(path, ".")) as (place, _):
            return os.listdir(place)
    except FileNotFoundError:
        return []


def size(folder: Folder, path: str) -> int:
    """Bytes in a file; 0 when there is none."""
    try:
        return os.lstat(os.path.join(folder, path)).st_size
    except FileNotFoundError:
        return 0


def exists(folder: Folder, path: str) -> bool:
    """Whether something has this name in the store."""
    try:
        os.lstat(os.path.join(folder, path))
    except FileNotFoundError:
        return False
    return True


def open_store_folder(folder: Folder) -> int:
    """A descriptor of the store's own folder, to be locked."""
    place = os.open(folder, _DIRECTORY)
    try:
        trust.check_opened(os.fspath(folder), os.fspath(folder), os.fstat(place))
    except BaseException:
        os.close(place)
        raise
    return place


def sync_folder(folder: Folder, path: str = ".") -> None:
    """Have the names in a folder, by default the store's own, survive the loss of power."""
    with _parent(folder, os.path.join(path, ".")) as (place, _):
        os.fsync(place)


def leave_alone(error: OSError | StoreError) -> None:
    """Say, once in this process, that a file cannot be used; what else there is to do goes on without it."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    if text not in _told:
        _told.add(text)
        import logging  # costs every start some milliseconds

        logging.getLogger("flowdeck.store").warning("%s; it is left alone, `flowdeck doctor` says more", text)


_told: set[str] = set()
UNUSABLE: Final = (PermissionError, StoreUntrusted)
"""What opening a file gives that is somebody else's, or none: one such file must not stop the others."""


# ---------------------------------------------------------------------------------------------------- one step each


def _open_or_make(folder: Folder, path: str, flags: int) -> int:
    with _parent(folder, path, making=True) as (place, name):
        while True:
            try:
                return _opened(folder, path, place, name, flags)
            except FileNotFoundError:
                with suppress(FileExistsError):  # another process was faster
                    return _make(folder, path, place, name, flags)


def _open(folder: Folder, path: str, flags: int) -> int:
    with _parent(folder, path) as (place, name):
        return _opened(folder, path, place, name, flags)


def _opened(folder: Folder, path: str, place: int, name: str, flags: int) -> int:
    whole = os.path.join(folder, path)
    try:
        # Not to wait for the other end of a pipe, which is no file of ours.
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError as error:
        if _is_there_but_no_file(name, place):
            raise trust.refuse_link(os.fspath(folder), whole) from None
        raise OSError(error.errno, error.strerror, whole) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise trust.refuse_link(os.fspath(folder), whole)
        trust.check_opened(os.fspath(folder), whole, status)
        if status.st_nlink > 1 and status.st_uid != os.fstat(place).st_uid:
            raise trust.refuse_link(os.fspath(folder), whole)  # a second name for somebody else's file
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make(folder: Folder, path: str, place: int, name: str, flags: int) -> int:
    try:
        descriptor = os.open(
            name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=place
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.path.join(folder, path)) from None
    os.fchmod(descriptor, FILE_MODE)  # whatever the umask says
    _give(descriptor, os.fstat(place))
    return descriptor


@contextmanager
def _parent(folder: Folder, path: str, *, making: bool = False) -> Iterator[tuple[int, str]]:
    """The folder that a path of the store is in, as a descriptor that no link led to, and the path's last name."""
    parts = _parts(path)
    place = open_store_folder(folder)
    try:
        for depth, part in enumerate(parts[:-1], 1):
            whole = os.path.join(folder, *parts[:depth])
            below = _enter(folder, whole, place, part, making)
            os.close(place)
            place = below
        yield place, parts[-1]
    finally:
        os.close(place)


def _enter(folder: Folder, whole: str, place: int, name: str, making: bool) -> int:
    made = False
    while True:
        try:
            below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
        except FileNotFoundError:
            if not making:
                raise FileNotFoundError(2, os.strerror(2), whole) from None
            with suppress(FileExistsError):
                os.mkdir(name, FOLDER_MODE, dir_fd=place)
                made = True
            if made and stat.S_IMODE(os.lstat(name, dir_fd=place).st_mode) != FOLDER_MODE:
                os.chmod(name, FOLDER_MODE, dir_fd=place)  # an unusual umask
            continue
        except OSError as error:
            if _is_there_but_no_file(name, place):
                raise trust.refuse_link(os.fspath(folder), whole) from None
            raise OSError(error.errno, error.strerror, whole) from None
        try:
            status = os.fstat(below)
            trust.check_opened(os.fspath(folder), whole, status)
            if made and status.st_uid == os.geteuid() and not os.listdir(below):
                _give(below, os.fstat(place))
        except BaseException:
            os.close(below)
            raise
        return below


def _give(descriptor: int, above: os.stat_result) -> None:
    """What root has made just now belongs to whoever owns the folder it is in."""
    owner = trust.owner_to_serve(above)
    if owner is not None:
        os.fchown(descriptor, *owner)


def _is_there_but_no_file(name: str, place: int) -> bool:
    try:
        mode = os.lstat(name, dir_fd=place).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _parts(path: str) -> list[str]:
    """The names on a path within the store; refused when it leads out of it."""
    parts = path.removeprefix("./").split("/")
    if not path or any(part in ("", "..") for part in parts) or "." in parts[:-1]:
        raise StoreUntrusted(f"a row of the store names the file {path!r}, which is no path within a store")
    return parts
