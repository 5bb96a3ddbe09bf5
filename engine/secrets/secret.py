"""``Secret("name")``: a value that is looked up where it is used, and masked wherever it might be written.

A secret has a name; its value stands in the environment as ``FLOWDECK_SECRET_NAME`` (capital letters, anything else an
underscore), or in a file of that name that only its owner may read, in ``$FLOWDECK_SECRETS``, systemd's
``$CREDENTIALS_DIRECTORY`` or ``~/.config/flowdeck/secrets``. The store never holds a value: a ``Secret`` is stored by
its name, and every value a run's process knows is masked in what it writes, those of the environment and of the files
from its first moment. A flow takes one as a parameter, ``def etl(token: Secret)``, and is given its name.
``Secret(value="…").save("name")`` writes such a file.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, NoReturn

from ...store import trust
from ..errors import NotAllowed, NotFound, SecretExists, UsageError
from ..system.awaiting import also_awaited
from . import masking

PREFIX: Final = "FLOWDECK_SECRET_"
FOLDER: Final = "FLOWDECK_SECRETS"
REFERENCE: Final = "secret:"
"""``secret:NAME`` is how a text parameter for a ``SecretStr`` names a secret instead of holding one."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_LONGEST: Final = 1 << 20
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})


class Secret:
    """A named secret. ``get()`` is its value; everything else about it may be shown.

    ``Secret(value="…")`` has no name, and is nowhere but in this process, until ``save``.
    """

    __module__ = "flowdeck"

    __slots__ = ("_unsaved", "name")

    def __init__(self, name: str | None = None, *, value: Any = None) -> None:
        if (name is None) == (value is None):
            raise UsageError('Secret("name") names a secret; Secret(value="…").save("name") makes one')
        self.name = name if name is None else _checked(name)
        self._unsaved: str | None = None if value is None else _text(value)
        if self._unsaved is not None:
            masking.conceal(self._unsaved)

    @classmethod
    @also_awaited
    def load(cls, name: str) -> Secret:
        """As ``Secret(name)``, but ``NotFound`` now when there is no such secret."""
        secret = cls(name)
        secret.get()
        return secret

    @also_awaited
    def save(self, name: str | None = None, overwrite: bool = False) -> str:
        """Keep the value in a file that only its owner may read, durable on return; gives the name.

        One that exists is changed only with ``overwrite=True``.
        """
        name = _checked(name if name is not None else self.name)
        value = self.get()
        _refuse_hidden(name)
        _write(_home(), name, value, overwrite=overwrite)
        self.name, self._unsaved = name, None
        return name

    def get(self) -> str:
        """The value; ``NotFound`` says where it was looked for."""
        if self._unsaved is not None:
            return self._unsaved
        name = _checked(self.name)
        value = _find(name)
        if value is None:
            raise NotFound(
                f"no secret {name!r}: set the environment variable {variable_of(name)}, or write it to "
                f"{os.path.join(_home(), name)} (chmod 600)"
            )
        masking.conceal(value)
        return value

    get_secret_value = get
    """pydantic's name, so that a ``Secret`` stands where a ``SecretStr`` does."""

    def reference(self) -> str:
        """The name it is stored by; refused while it has none."""
        if self.name is None:
            raise UsageError('a Secret that was not saved has no name to be stored by: Secret(value="…").save("name")')
        return self.name

    def __repr__(self) -> str:
        return f"Secret({self.name!r})" if self.name is not None else f"Secret(value={masking.MASK!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (other.name, other._unsaved) == (self.name, self._unsaved)

    def __hash__(self) -> int:
        return hash((Secret, self.name, self._unsaved))

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self.reference(),)

    def __format__(self, _spec: str) -> NoReturn:
        raise UsageError(f"{self!r} in a text would show its name only; write {self!r}.get() where its value belongs")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> dict[str, Any]:
        return {
            "type": "function-plain",
            "function": {"type": "no-info", "function": cls._from_parameter},
            "serialization": {"type": "function-plain", "function": cls.reference},
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        return {
            "type": "string", "title": "the name of a secret", "pattern": r"^(secret:)?[A-Za-z0-9][A-Za-z0-9_.-]*$",
            "format": "secret-name", "examples": known_names(),
        }

    @classmethod
    def _from_parameter(cls, value: Any) -> Secret:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            raise ValueError("give the name of a secret")  # noqa: TRY004 - what pydantic expects of a validator
        if not value.startswith(REFERENCE) and not is_known(value):
            masking.conceal(value)  # it may be the value itself
            raise ValueError(
                "no secret of that name is known here, and what was given is not shown, since it may be the value: "
                f"give the name of one that is set as {PREFIX}NAME or in a file of {_home()}, or write {REFERENCE}NAME"
            )
        try:
            return cls(value.removeprefix(REFERENCE))
        except UsageError:
            raise ValueError("give the name of a secret, not its value") from None


def variable_of(name: str) -> str:
    """The environment variable that may hold a secret."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper())


def is_known(name: str) -> bool:
    """Whether there is a secret of this name here, readable or not."""
    if not _NAME.match(name):
        return False
    try:
        return _find(name) is not None
    except UsageError:
        return True  # said when it is asked for


def known_names() -> list[str]:
    """The names of the secrets that there are here, as far as they can be told: those of variables in small letters."""
    variables = {name.removeprefix(PREFIX).lower() for name in os.environ if name.startswith(PREFIX)}
    files = (name for folder in _folders() for name in _names_in(folder) if _is_file(os.path.join(folder, name)))
    return sorted(variables | set(files) - {""})


def is_among(name: str, names: Iterable[str]) -> bool:
    """Whether a name is one of these, however its variable is written."""
    return variable_of(name) in map(variable_of, names)


def conceal_known() -> None:
    """Mask from now on what the environment and the files hold: before anything of a run can write it."""
    for variable, content in os.environ.items():
        if variable.startswith(PREFIX):
            masking.conceal(content)
    for folder in _folders():
        for name in _names_in(folder):
            try:
                value = _read(os.path.join(folder, name))
            except UsageError:
                continue  # said when it is asked for
            if value is not None:
                masking.conceal(value)


SECRET_TYPES: Final = ("SecretStr", "SecretBytes")
"""pydantic's types, which are not imported to be known again."""


@lru_cache(maxsize=1)
def know_from_the_first() -> None:
    """As ``conceal_known``, once in this process: names and words of flows are made while a file is imported."""
    conceal_known()


def conceal_typed(value: Any) -> bool:
    """Mask what the value holds if its type is one of pydantic's for secrets; says whether it is."""
    if not any(kind.__name__ in SECRET_TYPES for kind in type(value).__mro__) or not hasattr(value, "get_secret_value"):
        return False
    plain = value.get_secret_value()
    if isinstance(plain, (str, bytes)):
        masking.conceal(plain if isinstance(plain, str) else plain.decode("utf-8", "replace"))
    return True


def conceal_in(value: Any, depth: int = 0) -> None:
    """Mask what pydantic's ``SecretStr`` and ``SecretBytes`` in a value hold."""
    if type(value) not in _PLAIN and not conceal_typed(value) and depth < 6:
        for part in _parts(value):
            conceal_in(part, depth + 1)


def _parts(value: Any) -> Iterator[Any]:
    kind = type(value)
    if issubclass(kind, Mapping):
        yield from value.values()
    elif issubclass(kind, (list, tuple, set, frozenset)):
        yield from value
    else:
        fields = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "__dataclass_fields__", None) or ()
        yield from (getattr(value, field, None) for field in fields)


def resolve_reference(text: str) -> str:
    """The value that ``secret:NAME`` stands for; any other text is the value itself, and is masked from now on."""
    if text.startswith(REFERENCE):
        return Secret(text.removeprefix(REFERENCE)).get()
    masking.conceal(text)
    return text


def refuse_values(what: str, text: str) -> None:
    """Refuse what would have to be stored as it is and holds the value of a secret that is known here."""
    if masking.mask(text) != text:
        raise NotAllowed(f"{what} holds the value of a secret, which would have to be stored: give the secret's name")


def _find(name: str) -> str | None:
    value = os.environ.get(variable_of(name))
    if value is not None:
        return value
    return next((found for folder in _folders() if (found := _read(os.path.join(folder, name))) is not None), None)


def _folders() -> list[str]:
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    named = [os.environ.get(FOLDER), os.environ.get("CREDENTIALS_DIRECTORY")]
    return [*(folder for folder in named if folder), os.path.join(configuration, "flowdeck", "secrets")]


def _home() -> str:
    """Where ``save`` keeps secrets: the person's own folder; systemd's is read only."""
    return os.environ.get(FOLDER) or _folders()[-1]


def _checked(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise UsageError(f"a secret's name is made of letters, digits, dots, dashes and underscores, not {name!r}")
    return name


def _text(value: Any) -> str:
    """The value as it is kept; its errors do not show it."""
    text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    if not isinstance(text, str):
        raise UsageError(f"the value of a secret is a text, not of type {type(text).__name__}")
    if text.rstrip("\r\n") != text:
        raise UsageError("the value of a secret cannot end with an end of line: leave that out")
    if len(text.encode("utf-8", "replace")) > _LONGEST or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError("the value of a secret is a text of at most 1 MiB, without lone surrogates")
    return text


def _refuse_hidden(name: str) -> None:
    """What would be looked at before the file would still be what ``get`` gives."""
    if variable_of(name) in os.environ:
        raise NotAllowed(f"secret {name!r} is in the environment as {variable_of(name)}, which goes before any file")
    for folder in _folders()[: _folders().index(_home())]:
        if os.path.exists(os.path.join(folder, name)):
            raise NotAllowed(f"secret {name!r} is in {folder}, which goes before {_home()}")


def _write(folder: str, name: str, value: str, *, overwrite: bool) -> None:
    """A whole file or none, never readable by others, and synced with its folder."""
    path = os.path.join(folder, name)
    unfinished = os.path.join(folder, f".{name}.{os.getpid()}.{threading.get_ident()}")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _refuse_untrusted(folder, is_folder=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="") as file:
                os.fchmod(descriptor, 0o600)
                file.write(value)
                file.flush()
                os.fsync(descriptor)
            if overwrite:
                os.replace(unfinished, path)
            else:
                os.link(unfinished, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)
        folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder_descriptor)
        finally:
            os.close(folder_descriptor)
    except FileExistsError:
        raise SecretExists(f"there is a secret {name!r} in {folder} already; overwrite=True replaces it") from None
    except OSError as error:
        raise UsageError(f"the secret {path} cannot be written: {error.strerror}") from None


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _names_in(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if _NAME.match(name)]
    except OSError:
        return []  # no such folder: the usual case


def _read(path: str) -> str | None:
    """A secret's file; refused when others than its owner may read it."""
    try:
        # Not to wait for the writer of a pipe, which is no secret's file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"the secret {path} cannot be read: {error.strerror}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        return None
    with open(descriptor, encoding="utf-8", errors="replace", newline="") as file:
        _refuse_untrusted(path, is_folder=False)
        if stat.S_IMODE(mode) & 0o077 and not _is_credential(path, mode) and not trust.is_vouched_for(path):
            raise UsageError(
                f"the secret {path} can be read by others: chmod 600 {path}; or, where nobody else is on this machine, "
                f"set {trust.ENVIRONMENT_VARIABLE}={path}"
            )
        return file.read(_LONGEST).rstrip("\r\n")


def _refuse_untrusted(path: str, *, is_folder: bool) -> None:
    """Refuse a secret, or a folder for secrets, that somebody else could have written or could exchange."""
    found = trust.objection_to(path, is_folder=is_folder)
    if found is not None:
        raise UsageError(
            f"the secret {path} is not used: {found}. {found.remedy}; or, where you trust whoever can write it, set "
            f"{trust.ENVIRONMENT_VARIABLE}={path}"
        )


def _is_credential(path: str, mode: int) -> bool:
    """Whether it is systemd's, who lets one user read it by an access list, which the mode shows as the group's."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and os.path.dirname(path) == folder and not stat.S_IMODE(mode) & 0o037
