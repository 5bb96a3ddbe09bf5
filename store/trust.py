"""Whom to trust: whether this user may use a store, a file in it, or a flow file; every opening asks here.

A store is code: whoever writes a cached value into it runs what he likes as whoever reads that. A flow file is code,
and so is every folder from which another file could be put in its place. So each of them, and each folder and link on
the way there, belongs to a trusted user and can be written by nobody else. Trusted are this process's user and root,
and for root that came by sudo whoever called it. A group may write where it is a trusted user's own. Folders that
everybody may write and nobody may clear (sticky, as /tmp) are fine on the way, not as the end of it.

``FLOWDECK_TRUST`` names paths, parted by colons, that a person vouches for: they and what is below them are taken,
whoever owns them. Links within a store are never followed all the same. This module only looks; it opens nothing.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from .errors import StoreUntrusted

ENVIRONMENT_VARIABLE: Final = "FLOWDECK_TRUST"
MOST_LINKS: Final = 40
_GROUP_OR_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_LOCAL_GROUPS: Final = 100
"""Numbers below are the system's own; none of them is given to the users of a directory service."""
_IMPORTABLE: Final = (".py", ".pyc", ".so")


class Objection(NamedTuple):
    """Why a path is not trusted, and what to do about it."""

    path: str
    """What is wrong: the path itself, or a folder or link on the way to it."""
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


def trusted_users() -> frozenset[int]:
    """Whose files this process may use as if they were its own."""
    own = os.geteuid()
    if own != 0:
        return frozenset((own, 0))
    asked = os.environ.get("SUDO_UID", "")
    return frozenset((0, int(asked))) if asked.isdecimal() else frozenset((0,))


def is_vouched_for(path: str) -> bool:
    """Whether ``FLOWDECK_TRUST`` names the path or a folder above it."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if not named:
        return False
    places = {os.path.abspath(path), os.path.realpath(path)}
    for one in named.split(os.pathsep):
        if one:
            vouched = os.path.realpath(os.path.expanduser(one))
            if any(place == vouched or place.startswith(os.path.join(vouched, "")) for place in places):
                return True
    return False


def check_store(folder: str) -> None:
    """Refuse a store's folder that somebody else could have written, or could exchange. One not there yet is fine."""
    found = objection_to(folder, is_folder=True)
    if found is not None:
        raise _refusal(folder, found)


def check_files(folder: str, paths: Iterable[str]) -> None:
    """Refuse files of a store (those that exist) that are links, no files, or that somebody else could have written."""
    vouched: bool | None = None
    for path in paths:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        wrong = _wrong_kind(status) or objection_of(status, path)
        if wrong is None:
            continue
        vouched = is_vouched_for(folder) if vouched is None else vouched
        if not vouched or not stat.S_ISREG(status.st_mode):
            raise _refusal(folder, Objection(path, *wrong))


def check_opened(folder: str, path: str, status: os.stat_result) -> None:
    """As ``check_files``, for a file or folder below the store that has been opened without following links."""
    wrong = objection_of(status, path)
    if wrong is not None and not is_vouched_for(folder):
        raise _refusal(folder, Objection(path, *wrong))


def refuse_link(folder: str, path: str) -> StoreUntrusted:
    """The error for a link, or anything but a file, where a store has files of its own."""
    return _refusal(folder, Objection(path, "is a link or no file, and nothing of a store is", f"look at {path}"))


def objection_to_flow_file(path: str) -> Objection | None:
    """Why this user may not have the code of a flow file run; None when he may."""
    found = objection_to(path, is_folder=False)
    return found if found is not None or is_vouched_for(path) else _planted_beside(path)


def objection_to(path: str, *, is_folder: bool) -> Objection | None:
    """Who else could have written what stands at the path, or could put something else there; None when nobody."""
    found = next(_objections(path, is_folder), None)
    return None if found is None or is_vouched_for(path) else found


def objection_of(status: os.stat_result, path: str, *, on_the_way: bool = False) -> tuple[str, str] | None:
    """What is wrong with one file or folder, and the remedy; None when nobody but trusted users can have written it."""
    users = trusted_users()
    if status.st_uid not in users and not (on_the_way and _is_unmapped(status.st_uid)):
        owner, own = _user(status.st_uid), _user(os.geteuid())
        as_owner = f"`sudo -u {owner} …`" if owner[0] != "#" else f"`sudo -u '{owner}' …`"
        return f"belongs to {owner} (uid {status.st_uid}), not to you ({own})", f"Work as its owner: {as_owner}"
    mode = status.st_mode
    if not mode & _GROUP_OR_OTHERS or stat.S_ISLNK(mode):
        return None
    if on_the_way and mode & stat.S_ISVTX and stat.S_ISDIR(mode):
        return None
    if mode & stat.S_IWOTH:
        return f"can be written by everybody (mode {stat.S_IMODE(mode):o})", f"chmod go-w {path}"
    if not _is_private(status.st_gid, users):
        return f"can be written by the group {_group(status.st_gid)} (mode {stat.S_IMODE(mode):o})", f"chmod g-w {path}"
    if _has_list(path):
        return "can be written by others (it has an access list)", f"setfacl -b {path}"
    return None


def owner_to_serve(status: os.stat_result) -> tuple[int, int] | None:
    """Whom what is made in this folder must be given to: user and group when root works in another's store."""
    return (status.st_uid, status.st_gid) if os.geteuid() == 0 and status.st_uid != 0 else None


def owner_in_words(path: str) -> str | None:
    """The name of whoever owns a file or folder; None when that cannot be told."""
    try:
        return _user(os.stat(path).st_uid)
    except OSError:
        return None


# ---------------------------------------------------------------------------------------------------- the way there


def _objections(path: str, is_folder: bool) -> Iterator[Objection]:
    """Everything wrong on the way to a path and with what stands there, from the root on, links followed by hand."""
    todo = [part for part in reversed(os.path.abspath(path).split(os.sep)) if part]
    at, links = os.sep, 0
    while True:
        try:
            status = os.lstat(at)
        except (FileNotFoundError, NotADirectoryError):
            return  # not there yet: whoever makes it will own it
        except PermissionError:
            return  # whoever opens it says so
        wrong = objection_of(status, at, on_the_way=bool(todo) or stat.S_ISLNK(status.st_mode))
        if wrong is not None:
            yield Objection(at, *wrong)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MOST_LINKS:
                yield Objection(at, "is a link that leads to itself", f"look at {at}")
                return
            target = os.readlink(at)
            todo += [part for part in reversed(target.split(os.sep)) if part and part != "."]
            at = os.sep if os.path.isabs(target) else os.path.dirname(at)
        elif not todo and is_folder != stat.S_ISDIR(status.st_mode):
            return  # whoever opens it says so
        if not todo:
            return
        part = todo.pop()
        at = os.path.dirname(at) if part == ".." else os.path.join(at, part)


def _planted_beside(path: str) -> Objection | None:
    """In a folder that everybody may write: a module of somebody else's that the flow file's imports would find."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.stat(folder).st_mode & _GROUP_OR_OTHERS:
        return None
    users = trusted_users()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_uid in users:
                continue
            if entry.name.endswith(_IMPORTABLE) or os.path.exists(os.path.join(entry.path, "__init__.py")):
                return Objection(
                    entry.path, f"is a module of somebody else's beside {path}, which may import it",
                    "give the flow file a folder of its own",
                )  # fmt: skip
    return None


def _wrong_kind(status: os.stat_result) -> tuple[str, str] | None:
    if stat.S_ISREG(status.st_mode):
        return None
    return "is a link or no file, and nothing of a store is", "name another store"


def _refusal(folder: str, found: Objection) -> StoreUntrusted:
    return StoreUntrusted(
        f"the store {folder} is not used: {found}, and whoever writes a store runs code as whoever uses it. "
        f"{found.remedy}; or name your own with --store; "
        f"or, where you trust whoever can write it, set {ENVIRONMENT_VARIABLE}={folder}"
    )


# ---------------------------------------------------------------------------------------------------- users, groups


def _is_private(gid: int, users: frozenset[int]) -> bool:
    """Whether nobody but trusted users is in a group."""
    return _members(gid) <= users


@lru_cache(maxsize=64)
def _members(gid: int) -> frozenset[int]:
    """Users of a group as far as it is somebody's own or the system's; an unknown one in any other."""
    import grp
    import pwd

    unknown = frozenset((-1,))
    try:
        group = grp.getgrgid(gid)
        listed = {pwd.getpwnam(name).pw_uid for name in group.gr_mem}
    except KeyError:
        return unknown
    try:
        owner = pwd.getpwnam(group.gr_name)
    except KeyError:
        owner = None
    if owner is not None and owner.pw_gid == gid:
        return frozenset((*listed, owner.pw_uid))  # made for him with his account
    if gid >= _LOCAL_GROUPS:
        return unknown
    return frozenset((*listed, *(user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid)))


@lru_cache(maxsize=1)
def _unmapped() -> int | None:
    """The number that stands for every user this user namespace does not know; None in the first one."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            maps = [line.split() for line in file]
        if maps == [["0", "0", "4294967295"]]:
            return None
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return None  # no Linux


def _is_unmapped(uid: int) -> bool:
    """Whether this is the machine's root as a container without root's rights sees him (and any other stranger)."""
    return uid == _unmapped()


def _has_list(path: str) -> bool:
    """Whether an access list (ACL) gives rights beside the mode, whose group bits then say what it gives at most."""
    if sys.platform != "linux":
        return False
    try:
        return "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)
    except OSError:
        return False  # a file system without them


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
