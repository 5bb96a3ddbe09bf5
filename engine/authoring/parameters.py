"""A flow's parameters: binding a call to names, validation by its type hints, and their stored form.

Validation is pydantic's, in lax mode, as in Prefect. pydantic is imported only when some value is not already
exactly of its plain hinted type, so that a flow of strings and numbers starts without it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import ParameterError
from ..secrets.masking import MASK, conceal, mask
from ..secrets.secret import REFERENCE, Secret, conceal_in, is_known, resolve_reference
from ..states.state import storable

_PLAIN_WORDS = frozenset({"str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set"})
_EXACT = (str, int, float, bool, bytes, list, dict, tuple, set)


class Parameters:
    """The parameters of one function; made once per flow."""

    def __init__(self, fn: Callable[..., Any], owner: str) -> None:
        self.owner = owner
        self.fn = fn
        self.signature = inspect.signature(fn)
        self._hints: dict[str, Any] | None = None
        self._adapters: dict[str, Any] = {}
        self._secret_names: frozenset[str] | None = None
        self._secret_schemas: dict[str, dict[str, Any] | None] = {}

    @property
    def names(self) -> list[str]:
        """Parameter names in order."""
        return list(self.signature.parameters)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Name → value with defaults filled in; raises ``ParameterError`` naming what is missing or unknown."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            self.check_names(kwargs)
            raise ParameterError(f"flow {self.owner!r}: {error}; its parameters are {self.describe()}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def plain_defaults(self) -> dict[str, Any]:
        """The defaults that are the same after JSON; any other stays the function's own business."""
        from ..encoding.codec import encode

        defaults = {name: p.default for name, p in self.signature.parameters.items() if p.default is not p.empty}
        return {
            name: value for name, value in defaults.items()
            if encode(value).codec == "json" and not self._secret_texts(name, value)
        }  # fmt: skip

    def check_names(self, given: dict[str, Any]) -> None:
        """Raise ``ParameterError`` with the nearest name for a parameter the function does not have."""
        kinds = [p.kind for p in self.signature.parameters.values()]
        if inspect.Parameter.VAR_KEYWORD in kinds:
            return
        for name in given:
            if name not in self.signature.parameters:
                from difflib import get_close_matches

                near = get_close_matches(name, self.names, n=1)
                hint = f"did you mean {near[0]!r}? Its" if near else "its"
                raise ParameterError(
                    f"flow {self.owner!r} has no parameter {name!r}; {hint} parameters are {self.describe()}"
                )

    def describe(self) -> str:
        """``day: date, source: str = 'x'`` for error texts."""
        return ", ".join(str(p) for p in self.signature.parameters.values()) or "none"

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """Coerced values; raises ``ParameterError`` naming the parameter, what was given and what is expected."""
        checked = dict(values)
        for name, value in values.items():
            parameter = self.signature.parameters[name]
            hint = parameter.annotation
            if hint is inspect.Parameter.empty or _is_exactly(value, hint):
                continue
            if value is parameter.default:
                continue
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                checked[name] = tuple(self._coerce(name, item) for item in value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                checked[name] = {key: self._coerce(name, item) for key, item in value.items()}
            else:
                checked[name] = self._coerce(name, value)
        return checked

    def conceal(self, values: dict[str, Any]) -> None:
        """Know the secrets among the values before they are written, also texts given to a ``SecretStr`` within one.

        A text that should name a secret and names none may be its value.
        """
        for name, value in values.items():
            for _, text in self._secret_texts(name, value):
                resolve_reference(text)
            for _, text in self._secret_texts(name, value, "secret-name"):
                if not text.startswith(REFERENCE) and not is_known(text):
                    conceal(text)
            conceal_in(value)

    def _secret_texts(self, name: str, value: Any, form: str = "password") -> list[tuple[str, str]]:
        """The texts in a value as it was given that its hint says are secret, or name one, each with its place."""
        if isinstance(value, str) and form == "password" and name in self.secret_names:
            return [(name, value)]
        if not isinstance(value, (str, dict, list, tuple, set)) or self._is_plain(name):
            return []
        from ..encoding.json_schema import NAMED, has_secrets, secret_texts

        if name not in self._secret_schemas:
            schema = self._hint_schema(name)
            self._secret_schemas[name] = schema if has_secrets(schema) or has_secrets(schema, NAMED) else None
        found = self._secret_schemas[name]
        if found is None:
            return []
        return [(f"{name}.{place}".rstrip("."), text) for place, text in secret_texts(value, found, form=form)]

    def _is_plain(self, name: str) -> bool:
        """Whether the hint says without being read that nothing in a value is secret."""
        parameter = self.signature.parameters.get(name)
        hint = parameter.annotation if parameter is not None else inspect.Parameter.empty
        return hint is inspect.Parameter.empty or hint in _EXACT or hint in _PLAIN_WORDS

    def _resolved(self, name: str, value: Any) -> Any:
        """The value with what ``secret:NAME`` stands for, where its hint takes secrets."""
        found = {text: resolve_reference(text) for _, text in self._secret_texts(name, value)}
        if all(text == plain for text, plain in found.items()):
            return value
        from ..encoding.json_schema import replaced

        return replaced(value, found)

    @property
    def secret_names(self) -> frozenset[str]:
        """The parameters hinted ``SecretStr`` or ``SecretBytes``."""
        if self._secret_names is None:
            hints = {name: parameter.annotation for name, parameter in self.signature.parameters.items()}
            self._secret_names = frozenset(
                name for name, hint in hints.items()
                if any(word in (hint if isinstance(hint, str) else repr(hint)) for word in ("SecretStr", "SecretBytes"))
            )
        return self._secret_names

    def lost(self, values: dict[str, Any]) -> str | None:
        """Which of a stored run's parameters were secret and are not there any more, in words."""
        for name, value in values.items():
            for place, text in (*self._secret_texts(name, value), *self._secret_texts(name, value, "secret-name")):
                if MASK in text:
                    return (
                        f"parameter {place!r} is a secret, whose value is not stored: start a new run, or give it by "
                        f"name, {place}=secret:NAME, so that later attempts find it"
                    )
        return None

    def call_arguments(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for the function from name → value."""
        bound = self.signature.bind_partial()
        bound.arguments.update(values)
        return bound.args, bound.kwargs

    def schema(self) -> dict[str, Any]:
        """JSON schema of the parameters (an object), as good as the hints allow."""
        properties: dict[str, Any] = {}
        required: list[str] = []
        for name, parameter in self.signature.parameters.items():
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                continue
            entry = self._hint_schema(name)
            if parameter.default is inspect.Parameter.empty:
                required.append(name)
            else:
                text = to_json({"default": parameter.default})
                if text is not None:
                    entry["default"] = json.loads(text)["default"]
            properties[name] = entry
        return {"type": "object", "properties": properties, "required": required}

    def _hint_schema(self, name: str) -> dict[str, Any]:
        hint = self._hint(name)
        if hint is inspect.Parameter.empty:
            return {}
        plain = {str: "string", int: "integer", float: "number", bool: "boolean"}
        if hint in plain:
            return {"type": plain[hint]}
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            return TypeAdapter(hint).json_schema()
        except PydanticUserError:
            return {"description": str(hint)}

    def _hint(self, name: str) -> Any:
        if self._hints is None:
            from typing import get_type_hints

            try:
                self._hints = get_type_hints(self.fn, include_extras=True)
            except (AttributeError, NameError, SyntaxError, TypeError):
                self._hints = self._readable_hints()
        return self._hints.get(name, inspect.Parameter.empty)

    def _readable_hints(self) -> dict[str, Any]:
        """The hints one by one: what only type checkers can read (``if TYPE_CHECKING: import …``) is none."""
        from typing import get_type_hints

        fn: Any = inspect.unwrap(self.fn)
        read: dict[str, Any] = {}
        for name, hint in getattr(fn, "__annotations__", {}).items():
            alone = type("Alone", (), {"__annotations__": {name: hint}})
            with suppress(AttributeError, NameError, SyntaxError, TypeError):
                read |= get_type_hints(alone, globalns=getattr(fn, "__globals__", {}), include_extras=True)
        return read

    def _coerce(self, name: str, value: Any) -> Any:
        hint = self._hint(name)
        if hint is inspect.Parameter.empty:
            return value
        value = self._resolved(name, value)
        adapter = self._adapters.get(name)
        from pydantic import ConfigDict, TypeAdapter, ValidationError
        from pydantic.errors import PydanticUserError

        if adapter is None:
            try:
                try:
                    adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
                except PydanticUserError:
                    adapter = TypeAdapter(hint)  # a model brings its own configuration
            except PydanticUserError as error:
                raise ParameterError(f"flow {self.owner!r}: parameter {name!r}: {error}") from None
            self._adapters[name] = adapter
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            self.conceal({name: value})
            first = error.errors()[0]
            where = ".".join([name, *(str(part) for part in first["loc"])])
            raise ParameterError(mask(
                f"flow {self.owner!r}: parameter {where!r}: {first['msg']} (given {_short(first.get('input'))}; "
                f"expected {_hint_text(hint)})"
            )) from None  # fmt: skip


def to_json(values: dict[str, Any]) -> str | None:
    """JSON of parameters as a person or the daemon could give them back; None when some value has no JSON form."""
    try:
        text = json.dumps(values, ensure_ascii=False, default=_plain)
        # A lone surrogate has no place in a database but a way to be written in JSON.
        text = mask(text)
        return text if storable(text) == text else mask(json.dumps(values, default=_plain))
    except (Exception, SystemExit):  # noqa: BLE001 - no JSON form, or the user's class raises what it likes
        return None


def preview_json(values: dict[str, Any]) -> str:
    """JSON for people to read: what has no JSON form stands as its short text."""
    from ..encoding.codec import preview

    shown = {}
    for name, value in values.items():
        try:
            shown[name] = json.loads(json.dumps(value, default=_plain))
        except (Exception, SystemExit):  # noqa: BLE001 - as above
            shown[name] = preview(value)
    return storable(json.dumps(shown, ensure_ascii=False))


def _plain(value: Any) -> Any:
    kind = type(value)
    if issubclass(kind, Secret) and value.name is not None:
        return value.name
    if kind.__module__ == "datetime" and hasattr(value, "isoformat"):
        return value.isoformat()
    if kind.__module__.partition(".")[0] in ("pathlib", "uuid", "decimal"):
        return str(value)
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(kind, "__members__"):
        return value.value
    raise TypeError(f"{kind.__qualname__} has no JSON form")


def _is_exactly(value: Any, hint: Any) -> bool:
    if isinstance(hint, str):
        return type(value).__name__ == hint and type(value) in _EXACT
    return hint in _EXACT and type(value) is hint if isinstance(hint, type) else False


def _hint_text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _short(value: Any) -> str:
    from ..encoding.codec import preview

    text = preview(value)
    return text if len(text) <= 60 else text[:59] + "…"
