"""What the flows of the store write down: which bodies really ran, and which values the code around them got.

A body that runs notes ``ran``; code that has a value, fresh or replayed, notes ``got`` with all there is to say of it.
"""

import hashlib
import os
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EFFECTS = os.environ["EFFECTS"] = os.path.join(ROOT, "effects")
"""Also for commands, of which the folder is to be no input."""


class Notes:
    """One flow's lines in the effects file."""

    def __init__(self, flow):
        self.flow = flow

    def ran(self, what):
        """A body began."""
        self._append(f"{self.flow} ran {what}")

    def got(self, what, value, kind=None):
        """A value as code has it; with ``kind`` also whether it is of this class."""
        of_kind = "" if kind is None else f" ({kind.__name__}: {type(value) is kind})"
        self._append(f"{self.flow} got {what}{of_kind} = {shown(value)}")

    def _append(self, line):
        descriptor = os.open(EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, line.encode() + b"\n")
        os.close(descriptor)


class Beside:
    """A class of a module beside the flow file."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"Beside({self.text!r})"


def is_mended():
    """Whether what these runs failed of, or waited for, is there."""
    return os.path.exists(os.path.join(ROOT, "mended"))


def wait_until_mended():
    """As long as it takes."""
    while not is_mended():
        time.sleep(0.01)


def shown(value):
    """All there is to say of a value, in one line that is the same in every process; what is long by its digest."""
    text = _text(value).replace("\n", "\\n")
    if len(text) <= 2_000:
        return text
    return f"{text[:100]}… {len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _text(value):
    kind = type(value).__name__
    if isinstance(value, type) or hasattr(value, "__code__"):
        return value.__qualname__
    if isinstance(value, bytes) and len(value) > 200:
        return f"bytes of {len(value)}, {hashlib.sha256(value).hexdigest()[:16]}"
    if isinstance(value, BaseException):
        return f"{kind}({value!s}){_attributes(value)}"
    if hasattr(value, "is_final"):
        data, error = _text(value.data), _text(value.error)
        return f"{kind}({value.type} {value.name} {value.message!r} data={data} error={error})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items()) + "}"
    if type(value) in (list, tuple):
        return f"{kind}[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, (set, frozenset)):
        return f"{kind}{{" + ", ".join(sorted(map(_text, value))) + "}"
    text = repr(value)
    return f"{kind}{_attributes(value)}" if " at 0x" in text else text


def _attributes(value):
    return _text(dict(sorted(getattr(value, "__dict__", {}).items())))
