"""``RunInput``, ``send_input`` and ``receive_input``: typed input of runs, with Prefect's names.

What is asked or sent is a pydantic model; a plain type stands in the field ``value`` of one. A message taken is
journalled with the call that took it: replay sees the same messages in the same order, none lost, none twice.
"""

from __future__ import annotations

import inspect
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, create_model
from pydantic.errors import PydanticUserError

from ...store.tables import inputs
from ..encoding.json_schema import has_secrets, replaced, secret_texts
from ..errors import InputError, NotFound, UsageError
from ..running.calls.frame import current_frame
from ..running.calls.task_call import record_caller
from ..running.effects.effects import Await, Durable, Steps, drive, drive_async
from ..running.effects.interrupts import engine_code
from ..running.lifecycle.asking import Expected
from ..secrets.secret import resolve_reference
from ..system.clock import now_us
from .in_coroutines import given
from .placing import control_of, run_number

if TYPE_CHECKING:
    from ...store.connection import Connection
    from ...store.rows import InputRow
    from ..running.calls.frame import Frame

T = TypeVar("T")
_FROM_RUN = "flow-run/"
_POLL_SECONDS = 0.05
"""Between looks where no run of ours is told of changes."""


class InputMetadata(NamedTuple):
    """Where a message came from."""

    key: str
    sender: str
    receiver: int


class RunInput(BaseModel):
    """What a run is given while it runs: subclass it with the fields you want."""

    __module__ = "flowdeck"

    model_config = ConfigDict(extra="forbid")
    _asked: ClassVar[str | None] = None
    _metadata: InputMetadata | None = PrivateAttr(default=None)

    @property
    def metadata(self) -> InputMetadata:
        """Key, sender and receiver of a message that was received."""
        if self._metadata is None:
            raise UsageError("only an input that receive_input() gave has metadata")
        return self._metadata

    @classmethod
    def with_initial_data(cls, description: str | None = None, **defaults: Any) -> type[RunInput]:
        """This model with a text for the person who is asked (markdown) and values to begin with."""
        unknown = [name for name in defaults if name not in cls.model_fields]
        if unknown:
            known = ", ".join(cls.model_fields)
            raise UsageError(f"{cls.__name__} has no field {unknown[0]!r}; its fields are {known}")
        changed: dict[str, Any] = {}
        for name, value in defaults.items():
            field = copy(cls.model_fields[name])  # with its constraints and its words
            field.default, field.default_factory = value, None
            changed[name] = (field.annotation, field)
        model: type[RunInput] = create_model(cls.__name__, __base__=cls, __module__=cls.__module__, **changed)
        model.__doc__ = cls.__doc__
        model._asked = inspect.cleandoc(description) if description else None
        return model

    @classmethod
    def receive(cls, timeout: float | None = 3600, poll_interval: float | None = None,
                raise_timeout_error: bool = False, exclude_keys: set[str] | None = None,
                key_prefix: str | None = None, flow_run_id: int | str | None = None) -> Inbox[Any]:
        """Messages of this kind, as ``receive_input`` gives them."""
        return receive_input(cls, timeout, poll_interval, raise_timeout_error, exclude_keys, key_prefix, flow_run_id)

    def send_to(self, flow_run_id: int | str, sender: str | None = None, key_prefix: str | None = None) -> Any:
        """Send this to a run."""
        return send_input(self, flow_run_id, sender, key_prefix)

    def respond(self, run_input: Any, sender: str | None = None, key_prefix: str | None = None) -> Any:
        """Send something to the run this message came from."""
        origin = self.metadata.sender
        if not origin.startswith(_FROM_RUN):
            raise UsageError(f"nobody can be answered: the message was sent by {origin}, which is no run")
        return send_input(run_input, origin.removeprefix(_FROM_RUN), sender, key_prefix)


class Asked:
    """What ``wait_for_input`` was given: a model, or a type that becomes one."""

    def __init__(self, wanted: Any) -> None:
        self.model, self._is_plain = _model_of(wanted)
        try:
            self.json_schema: dict[str, Any] = self.model.model_json_schema()
        except PydanticUserError as error:
            raise UsageError(f"wait_for_input={wanted!r} has no JSON schema, so nobody can be asked for it: "
                             f"{error.message}") from None
        asked = getattr(self.model, "_asked", None)
        documented = self.json_schema.pop("description", None)
        self.description: str | None = asked if isinstance(asked, str) else documented

    def decode(self, value: str | None) -> Any:
        """The answer as the code gets it; ``InputError`` names what the model refuses."""
        loaded = load(self.model, value)
        return loaded.value if self._is_plain else loaded  # type: ignore[attr-defined]


def load(model: type[BaseModel], value: str | None) -> BaseModel:
    """JSON data as the model; ``InputError`` names the fields it refuses."""
    try:
        return model.model_validate_json(_with_secrets(model, value or "{}"))
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'input'}: {found['msg']}" for found in error.errors()[:5]
        )
        raise InputError(f"{model.__name__}: {said}") from None


def _with_secrets(model: type[BaseModel], text: str) -> str:
    """JSON data with what ``secret:NAME`` stands for, where the model takes secrets."""
    schema = model.model_json_schema()
    if not has_secrets(schema):
        return text
    data = json.loads(text)
    try:
        found = {named: resolve_reference(named) for _, named in secret_texts(data, schema)}
    except NotFound as error:
        raise InputError(str(error)) from None
    return json.dumps(replaced(data, found))


def _model_of(wanted: Any) -> tuple[type[BaseModel], bool]:
    """A model, and whether a plain value stands in its field ``value``."""
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return wanted, False
    name = getattr(wanted, "__name__", None) or str(wanted).removeprefix("typing.")
    try:
        return create_model(name, __config__=ConfigDict(extra="forbid"), value=(wanted, ...)), True
    except (PydanticUserError, TypeError) as error:
        raise UsageError(f"{wanted!r} is no type that can be asked for: {str(error).splitlines()[0]}") from None


def _receivable(wanted: Any) -> tuple[type[RunInput], bool]:
    """A ``RunInput`` for what is received, so that it knows its sender."""
    model, is_plain = _model_of(wanted)
    if issubclass(model, RunInput):
        return model, is_plain
    made: type[RunInput] = type(model.__name__, (RunInput, model), {"__doc__": model.__doc__})
    return made, is_plain


def kind_of(wanted: Any) -> str:
    """By which messages of this type are found: ``int-auto`` for ``int``, ``greeting-auto`` for ``Greeting``."""
    name = getattr(wanted, "__name__", None) or str(wanted).removeprefix("typing.")
    return f"{name.lower()}-auto"


def send_input(run_input: Any, flow_run_id: int | str, sender: str | None = None, key_prefix: str | None = None) -> Any:
    """Send a value or a model to a run, durably; in async code it is awaited."""
    frame = current_frame.get()
    if isinstance(run_input, BaseModel):
        value = run_input.model_dump(mode="json")
    else:
        model, _ = _model_of(type(run_input))
        value = model.model_construct(value=run_input).model_dump(mode="json")
    if sender is None and frame is not None:
        sender = f"{_FROM_RUN}{frame.run.id}"
    with control_of(frame) as control:
        control.send(run_number(flow_run_id), key_prefix or kind_of(type(run_input)), value, sender=sender)
    return given(frame, None)


def receive_input(
    input_type: type[T] | Any, timeout: float | None = 3600, poll_interval: float | None = None,
    raise_timeout_error: bool = False, exclude_keys: set[str] | None = None, key_prefix: str | None = None,
    flow_run_id: int | str | None = None, with_metadata: bool = False,
) -> Inbox[T]:
    """The messages of a type that are sent to this run, as they come; ``for`` and ``async for`` both work.

    Iterating ends when none came for ``timeout`` seconds (None: never), with TimeoutError if that was asked for. A
    plain type gives its values, with ``with_metadata`` objects that have ``.value``, ``.metadata`` and ``.respond()``.
    Nothing polls: ``poll_interval`` is Prefect's and ignored.
    """
    del poll_interval
    return Inbox(input_type, timeout, raise_timeout_error, frozenset(exclude_keys or ()), key_prefix, flow_run_id,
                 with_metadata)


class Inbox(Generic[T]):
    """The messages one call of ``receive_input`` takes."""

    def __init__(self, wanted: Any, timeout: float | None, raises: bool, without: frozenset[str],
                 key_prefix: str | None, flow_run_id: int | str | None, with_metadata: bool) -> None:
        self._model, is_plain = _receivable(wanted)
        self._unwraps = is_plain and not with_metadata
        self._timeout = timeout
        self._raises = raises
        self._without = without
        self._kind = key_prefix or kind_of(wanted)
        self._replayed: deque[InputRow] = deque()
        self._frame = frame = current_frame.get()
        if frame is None and flow_run_id is None:
            raise UsageError("receive_input() outside a run: say whose messages with flow_run_id=")
        self._source = run_number(flow_run_id) if flow_run_id is not None else self._own_id(frame)
        self._place = "outside"
        if frame is not None:
            if frame.task is not None:
                record_caller(frame.task)
            run, index = frame.run, frame.run.next_call_index(frame.scope_seq, "receive_input()")
            self._place = f"{run.id}/{frame.scope_seq}/{index}"
            with engine_code():
                found = run.session.read(lambda conn: inputs.taken_by(conn, self._source, self._place))
            self._replayed.extend(found)

    @staticmethod
    def _own_id(frame: Frame | None) -> int:
        assert frame is not None
        return frame.run.id

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with engine_code():
            frame = self._frame
            row = self._take_outside() if frame is None else drive(frame.run.session, self._steps(frame))
        return self._given(row, StopIteration())

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._frame is None:
            import asyncio

            row = await asyncio.to_thread(self._take_outside)
        else:
            row = await drive_async(self._frame.run.session, self._steps(self._frame))
        return self._given(row, StopAsyncIteration())

    async def next(self) -> T:
        """The next message; raises TimeoutError when none comes."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise TimeoutError(self._in_vain()) from None

    def _steps(self, frame: Frame) -> Steps[InputRow | None]:
        session = frame.run.session
        if self._replayed:
            return self._replayed.popleft()
        row: InputRow | None = yield Durable(self._take)
        if row is not None:
            return row
        expected = Expected(lambda conn: inputs.first_untaken(conn, self._source, self._kind, self._without))
        with session.expectations.of(expected):
            yield Await(expected, self._timeout)
        row = yield Durable(self._take_or_note)
        return row

    def _take(self, conn: Connection) -> InputRow | None:
        found = inputs.first_untaken(conn, self._source, self._kind, self._without)
        if found is not None:
            inputs.take(conn, found.id, self._place, now_us())
        return found

    def _take_or_note(self, conn: Connection) -> InputRow:
        """A wait in vain is journalled too: replay ends its iteration at the same place."""
        row = self._take(conn)
        if row is None:
            key, at_us = f"receive/{self._place}", now_us()
            row_id = inputs.insert(conn, self._source, key, "wait", sender="engine", at_us=at_us)
            inputs.take(conn, row_id, self._place, at_us)
            row = inputs.newest(conn, self._source, key, "wait")
            assert row is not None
        return row

    def _take_outside(self) -> InputRow | None:
        """In a process that is no run's: the store is looked at now and then."""
        from ...store.connection import connect, transaction
        from ...store.location import settled_store

        connection = connect(settled_store(), "state")
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            while deadline is None or time.monotonic() < deadline:
                if inputs.first_untaken(connection, self._source, self._kind, self._without) is not None:
                    with transaction(connection):
                        row = self._take(connection)
                    if row is not None:
                        return row
                time.sleep(_POLL_SECONDS)
        finally:
            connection.close()
        return None

    def _given(self, row: InputRow | None, end: Exception) -> T:
        if row is None or row.kind == "wait":
            raise TimeoutError(self._in_vain()) if self._raises else end
        try:
            loaded = load(self._model, row.value)
        except InputError as error:
            raise InputError(f"a message from {row.sender} is not what was asked for: {error}") from None
        assert isinstance(loaded, RunInput)
        loaded._metadata = InputMetadata(row.key, row.sender, row.run_id)
        value: T = loaded.value if self._unwraps else loaded  # type: ignore[attr-defined,assignment]
        return value

    def _in_vain(self) -> str:
        return f"no message ({self._kind.removesuffix('-auto')}) came to run #{self._source} for {self._timeout:g} s"
