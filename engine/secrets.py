"""``Secret("name")``: a value that is looked up where it is used, and masked wherever it might be written.

A secret has a name; its value stands in the environment as ``FLOWDECK_SECRET_NAME`` (capital letters, anything else an
underscore), or in a file of that name that only its owner may read, in ``$FLOWDECK_SECRETS``, systemd's
``$CREDENTIALS_DIRECTORY`` or ``~/.config/flowdeck/secrets``. The store never holds a value: a ``Secret`` is stored by
its name, and every value a run's process knows is masked in what it writes, those of the environment and of the files
from its first moment. A flow takes one as a parameter, ``def etl(token: Secret)``, and is given its name.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from . import masking
from .errors import NotFound, UsageError

PREFIX: Final = "FLOWDECK_SECRET_"
FOLDER: Final = "FLOWDECK_SECRETS"
REFERENCE: Final = "secret:"
"""``secret:NAME`` is how a text parameter for a ``SecretStr`` names a secret instead of holding one."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


class Secret:
    """A named secret. ``get()`` is its value; everything else about it may be shown."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not _NAME.match(name):
            raise UsageError(f"a secret's name is made of letters, digits, dots, dashes and underscores, not {name!r}")
        self.name = name

    @classmethod
    def load(cls, name: str) -> Secret:
        """As ``Secret(name)``, but ``NotFound`` now when there is no such secret."""
        secret = cls(name)
        secret.get()
        return secret

    def get(self) -> str:
        """The value; ``NotFound`` says where it was looked for."""
        value = _find(self.name)
        if value is None:
            raise NotFound(
                f"no secret {self.name!r}: set the environment variable {variable_of(self.name)}, or write it to "
                f"{os.path.join(_folders()[-1], self.name)} (chmod 600)"
            )
        masking.conceal(value)
        return value

    get_secret_value = get
    """pydantic's name, so that a ``Secret`` stands where a ``SecretStr`` does."""

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Secret, self.name))

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self.name,)

    def __format__(self, _spec: str) -> NoReturn:
        raise UsageError(f"{self!r} in a text would show its name only; write {self!r}.get() where its value belongs")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> dict[str, Any]:
        return {
            "type": "function-plain",
            "function": {"type": "no-info", "function": cls._from_parameter},
            "serialization": {"type": "function-plain", "function": lambda secret: secret.name},
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        return {"type": "string", "title": "the name of a secret", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"}

    @classmethod
    def _from_parameter(cls, value: Any) -> Secret:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            raise ValueError("give the name of a secret")  # noqa: TRY004 - what pydantic expects of a validator
        try:
            return cls(value.removeprefix(REFERENCE))
        except UsageError:
            raise ValueError("give the name of a secret, not its value") from None


def variable_of(name: str) -> str:
    """The environment variable that may hold a secret."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper())


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


def conceal_in(value: Any, depth: int = 0) -> None:
    """Mask what pydantic's ``SecretStr`` and ``SecretBytes`` in a value hold."""
    if type(value).__name__ in ("SecretStr", "SecretBytes") and hasattr(value, "get_secret_value"):
        plain = value.get_secret_value()
        masking.conceal(plain if isinstance(plain, str) else plain.decode("utf-8", "replace"))
    elif depth < 6:
        for part in _parts(value):
            conceal_in(part, depth + 1)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif (fields := getattr(type(value), "__pydantic_fields__", None)) is not None:
        yield from (getattr(value, field, None) for field in fields)


def resolve_reference(text: str) -> str:
    """The value that ``secret:NAME`` stands for; any other text is the value itself, and is masked from now on."""
    if text.startswith(REFERENCE):
        return Secret(text.removeprefix(REFERENCE)).get()
    masking.conceal(text)
    return text


def _find(name: str) -> str | None:
    value = os.environ.get(variable_of(name))
    if value is not None:
        return value
    return next((found for folder in _folders() if (found := _read(os.path.join(folder, name))) is not None), None)


def _folders() -> list[str]:
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    named = [os.environ.get(FOLDER), os.environ.get("CREDENTIALS_DIRECTORY")]
    return [*(folder for folder in named if folder), os.path.join(configuration, "flowdeck", "secrets")]


def _names_in(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if _NAME.match(name)]
    except OSError:
        return []  # no such folder: the usual case


def _read(path: str) -> str | None:
    """A secret's file; refused when others than its owner may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"the secret {path} cannot be read: {error.strerror}") from None
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        mode = os.fstat(descriptor)
        if not stat.S_ISREG(mode.st_mode):
            return None
        if stat.S_IMODE(mode.st_mode) & 0o077:
            raise UsageError(f"the secret {path} can be read by others: chmod 600 {path}")
        return file.read(1 << 20).rstrip("\r\n")
