"""Results on disk: ``json`` where it round-trips, else ``cloudpickle``, each with a checksum and a preview text.

Only the run's own process ever calls ``decode``; everybody else shows the preview, which is plain text made here.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, ClassVar, NamedTuple
from zlib import crc32

from ..errors import ResultUnreadable
from ..secrets.masking import holds_secret, is_active, mask
from ..secrets.secret import SECRET_TYPES, conceal_typed
from ..states.state import describe_exception, storable
from .digest import blake2b

if TYPE_CHECKING:
    import pickle

    from .serializers import Serializer

PREVIEW_CHARACTERS = 200
_COMPRESSED = b"FDZ1"
"""Before compressed bytes; neither JSON nor a pickle begins so."""
_PREFIX = __name__.partition(".")[0] + "."
_OURS = _PREFIX.encode()
"""In a pickle that names something of ours."""
_MAY_BE_TYPED = re.compile("|".join(SECRET_TYPES).encode())
"""In a pickle that holds what its type says is secret, or a class that mentions such a type."""
_LONG_TEXT = 1 << 20
LARGE_BYTES = 8 << 20
"""From this size on a result is not pickled in memory first."""
_PREVIEWED_BYTES = 4096
_PRINTABLE_BITS = 2_000
_PLAIN = frozenset({int, str, float, bool, type(None)})
_SHORT = 1 << 62
_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_read_json = json.JSONDecoder().raw_decode


class Encoded(NamedTuple):
    """A value made ready for the journal. ``codec`` is ``none`` when it cannot be stored; ``reason`` says why."""

    codec: str
    data: bytes | None
    checksum: str
    preview: str
    reason: str | None


def encode(value: Any, serializer: Serializer | None = None) -> Encoded:
    """Encode any value; what cannot be stored gets codec ``none`` and a reason. Raises nothing but Ctrl-C."""
    if value is None:
        return _NONE
    if type(value) is int and serializer is None and -_SHORT < value < _SHORT and not is_active():
        text = repr(value)  # what most small tasks return
        return Encoded("json", data := text.encode(), f"{crc32(data):08x}", text, None)
    encoded = _encode(value) if serializer is None else _encode_as(value, serializer)
    if encoded.data is not None and _MAY_BE_TYPED.search(encoded.data) is not None:
        _conceal_typed(value)
        encoded = encoded._replace(preview=mask(encoded.preview))
    if is_active() and encoded.data is not None and holds_secret(encoded.data):
        # A result is written for the next attempt; a secret is not for the store.
        return Encoded("none", None, "", encoded.preview, "it holds the value of a secret")
    if serializer is not None and serializer.compresses and encoded.data is not None:
        from zlib import compress

        data = _COMPRESSED + compress(encoded.data)
        return encoded._replace(data=data, checksum=checksum(data))
    return encoded


def _conceal_typed(value: Any) -> None:
    """Know what pydantic's secrets hold, however deep in the value: whatever a type says is secret is not stored."""
    import cloudpickle

    class Finder(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def reducer_override(self, obj: Any) -> Any:
            conceal_typed(obj)
            return super().reducer_override(obj)

    with suppress(Exception):  # it was pickled just now
        Finder(io.BytesIO(), protocol=5).dump(value)


def _encode_as(value: Any, serializer: Serializer) -> Encoded:
    """As the task's ``result_serializer`` says; ``json`` here is JSON also where that changes a type."""
    try:
        if serializer.kind == "json":
            data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
            return Encoded("json", data, checksum(data), preview(value), None)
        if serializer.kind == "own":
            from .serializers import Foreign

            value = Foreign(serializer.own, serializer.own.dumps(value))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's serializer, and what JSON thinks of the value
        reason = f"{type(value).__qualname__} cannot be serialized: {describe_exception(error)}"
        return Encoded("none", None, "", preview(value), reason[:300])
    pickle = pickled(value)
    if isinstance(pickle, str):
        return Encoded("none", None, "", preview(value), pickle)
    return Encoded("cloudpickle", pickle, checksum(pickle), preview(value), None)


def _encode(value: Any) -> Encoded:
    # A long text would be in memory three times as JSON, as a pickle only twice.
    if not (type(value) is str and len(value) > _LONG_TEXT) and _round_trips(value, 0):
        try:
            data = _encode_json(value).encode()
        except (ValueError, RecursionError):
            pass  # lone surrogates or too deep for JSON: pickle carries them
        else:
            return Encoded("json", data, checksum(data), preview(value), None)
    pickle = pickled(value)
    if isinstance(pickle, str):
        return Encoded("none", None, "", preview(value), pickle)
    return Encoded("cloudpickle", pickle, checksum(pickle), preview(value), None)


def pickled(value: Any) -> bytes | str:
    """The value's pickle, or as a text why there is none."""
    try:
        from . import former_names

        former_names.make_findable()
        file = io.BytesIO()
        pickler()(file, protocol=5).dump(value)
        data = file.getvalue()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user's __reduce__ raises
        return f"{type(value).__qualname__} cannot be pickled: {describe_exception(error)}"[:300]
    return data


def pickled_as_ever(value: Any) -> bytes | str:
    """As ``pickled``, for keys, which are to be the same in every version: our classes named as they were at first."""
    data = pickled(value)
    if isinstance(data, str) or _OURS[:-1] not in data:
        return data
    file = io.BytesIO()
    _as_ever()(file).dump(value)
    return file.getvalue()


@functools.cache
def _as_ever() -> Any:
    """Writes byte for byte what cloudpickle does, but for the names; made when first needed."""
    import pickle
    from types import FunctionType

    import cloudpickle

    from . import flow_file_objects, former_names

    in_python: Any = pickle._Pickler  # the one whose steps can be replaced

    class Pickler(in_python):  # type: ignore[misc]  # known when it runs
        dispatch: ClassVar[dict[type, Any]] = dict(in_python.dispatch)

        def __init__(self, file: IO[bytes]) -> None:
            super().__init__(file, 5)
            self.globals_ref: dict[int, Any] = {}

        def save_global(self, value: Any, name: str | None = None) -> None:
            name = name or value.__qualname__
            module = pickle.whichmodule(value, name)  # type: ignore[attr-defined]  # as the class it extends
            first = former_names.first_module(module, name) if f"{module}.".startswith(_PREFIX) else module
            if first == module:
                super().save_global(value, name)
                return
            self.save(sys.intern(first))
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
            self.memoize(value)

        def reducer_override(self, obj: Any) -> Any:
            if (named := flow_file_objects.name_of(obj)) is not None:
                return flow_file_objects._of_flow_file, named
            return cloudpickle.Pickler.reducer_override(self, obj)

        dispatch[FunctionType] = save_global

    own = vars(Pickler)
    for name, held in vars(cloudpickle.Pickler).items():  # what it does with functions and classes that travel by value
        if not name.startswith("__") and name not in own and name != "dump":
            setattr(Pickler, name, held)
    return Pickler


def is_large(value: Any) -> bool:
    """Whether it goes to its file as it is pickled, so that it is in memory once."""
    kind = type(value)
    if kind in _PLAIN and kind is not str:
        return False
    if kind is str or kind is bytes:
        return len(value) >= LARGE_BYTES
    from .sizes import size_bytes

    return size_bytes(value) >= LARGE_BYTES


def encode_into(value: Any, file: IO[bytes]) -> Encoded:
    """As ``encode``, of a large value, written to a file without another copy in memory; ``data`` is None."""
    summing = _Summing(file)
    try:
        from . import former_names

        former_names.make_findable()
        pickler()(summing, protocol=5).dump(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user's __reduce__ raises
        summing.check()
        reason = f"{type(value).__qualname__} cannot be pickled: {describe_exception(error)}"
        return Encoded("none", None, "", preview(value), reason[:300])
    if summing.may_be_typed:
        _conceal_typed(value)
        if is_active():
            return Encoded("none", None, "", preview(value), "it holds what its type says is secret")
    return Encoded("cloudpickle", None, summing.digest.hexdigest(), preview(value), None)


class _Summing:
    """A file that is written through, its checksum taken on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = blake2b(digest_size=16)
        self.failed: OSError | None = None
        self.may_be_typed = False
        """Whether what was written mentions a type for secrets."""
        self._file = file

    def check(self) -> None:
        """Raise what writing raised: then the disk is at fault, not the value."""
        if self.failed is not None:
            raise self.failed

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.may_be_typed = self.may_be_typed or _MAY_BE_TYPED.search(data) is not None
        try:
            return self._file.write(data)
        except OSError as error:
            self.failed = error
            raise


def decode_file(codec: str, file: IO[bytes], expected_checksum: str) -> Any:
    """As ``decode``, from an open file; a large pickle is read without another copy in memory."""
    first = file.read(len(_COMPRESSED))
    file.seek(0)
    if codec == "json" or os.fstat(file.fileno()).st_size < LARGE_BYTES or first == _COMPRESSED:
        return decode(codec, file.read(), expected_checksum)
    digest = blake2b(digest_size=16)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    if digest.hexdigest() != expected_checksum:
        raise ResultUnreadable("the stored bytes do not match their checksum")
    file.seek(0)
    try:
        from . import former_names

        former_names.make_importable()
        return _unpickler()(file).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ResultUnreadable(f"{type(error).__name__}: {error}") from error


def decode(codec: str, data: bytes, expected_checksum: str) -> Any:
    """The value of a journalled result; raises ``ResultUnreadable`` when it is damaged or its classes are gone."""
    if checksum(data) != expected_checksum:
        raise ResultUnreadable("the stored bytes do not match their checksum")
    try:
        if data.startswith(_COMPRESSED):
            from zlib import decompress

            data = decompress(memoryview(data)[len(_COMPRESSED) :])
        if codec == "json":
            return _from_json(data.decode("utf-8", "surrogatepass"))
        from . import flow_file_objects, former_names

        former_names.make_importable()
        if _OURS in data or flow_file_objects.may_be_in(data):
            return _unpickler()(io.BytesIO(data)).load()
        import pickle

        return pickle.loads(data)  # noqa: S301 - the run's own process reads what the run itself wrote
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ResultUnreadable(f"{type(error).__name__}: {error}") from error


def _from_json(text: str) -> Any:
    """As ``json.loads``, in a third of its time for small values."""
    value, end = _read_json(text)
    return value if end == len(text) else json.loads(text)


@functools.cache
def pickler() -> Callable[..., Any]:
    """As cloudpickle's, but that a script's own classes and functions are named; made when first needed."""
    import cloudpickle

    from . import flow_file_objects

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # known when it runs
        def reducer_override(self, obj: Any) -> Any:
            if (named := flow_file_objects.name_of(obj)) is not None:
                return flow_file_objects._of_flow_file, named
            return super().reducer_override(obj)

    return Pickler


@functools.cache
def _unpickler() -> Callable[[IO[bytes]], pickle.Unpickler]:
    """Reads what the run itself wrote, also before its classes of ours moved; made when first needed."""
    import pickle

    from . import flow_file_objects, former_names

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (found := flow_file_objects.find(module, name)) is not None:
                return found
            return former_names.find(module, name) if module.startswith(_PREFIX) else super().find_class(module, name)

    return Unpickler


def checksum(data: bytes) -> str:
    """CRC-32 for small values, BLAKE2 for the rest: enough to notice damage, not a signature."""
    if len(data) <= 4096:
        return f"{crc32(data):08x}"
    return blake2b(data, digest_size=16).hexdigest()


def preview(value: Any) -> str:
    """A short text for people; bounded work even for huge values, and safe when ``__repr__`` raises."""
    kind = type(value)
    if kind is bytes or kind is bytearray:
        text = mask(repr(value[:_PREVIEWED_BYTES]))  # masked before it is cut: no piece of a secret is left
    elif kind is int and value.bit_length() > _PRINTABLE_BITS:
        text = f"<an integer of {value.bit_length()} bits>"  # Python refuses to print it in decimal
    elif kind in _PLAIN:
        text = repr(value if kind is not str else mask(value)[: PREVIEW_CHARACTERS + 1])
    else:

        limited = _bounded_repr()
        limited.maxstring = limited.maxother = limited.maxlong = 80
        limited.maxlist = limited.maxtuple = limited.maxdict = limited.maxset = 6
        try:
            text = limited.repr(value)
        except BaseException as error:  # noqa: BLE001 - the user's __repr__
            text = f"<{kind.__qualname__}: its repr raised {type(error).__name__}>"
    text = storable(text)
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"


def _bounded_repr() -> Any:
    """Long bytes are cut before they are printed; what is cut in the middle must not keep a piece of a secret."""
    import reprlib

    class Bounded(reprlib.Repr):
        def repr_bytes(self, x: bytes, level: int) -> str:  # noqa: ARG002 - reprlib passes it
            text = mask(repr(x[:_PREVIEWED_BYTES]))
            return text if len(text) <= self.maxother else text[: self.maxother - 1] + "…"

        repr_bytearray = repr_bytes

    if not is_active():
        return Bounded()

    class Masking(Bounded):
        def repr_str(self, x: str, level: int) -> str:
            return super().repr_str(mask(x), level)

        def repr_instance(self, x: Any, level: int) -> str:  # noqa: ARG002 - as the class it extends
            text = mask(repr(x))
            return text if len(text) <= self.maxother else text[: self.maxother] + "…"

    return Masking()


def _round_trips(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth > 20:
        return False
    if kind is list:
        return all(type(item) in _PLAIN or _round_trips(item, depth + 1) for item in value)
    if kind is dict:
        return all(
            type(key) is str and (type(item) in _PLAIN or _round_trips(item, depth + 1)) for key, item in value.items()
        )
    return False


_NONE = Encoded("json", b"null", checksum(b"null"), "None", None)
