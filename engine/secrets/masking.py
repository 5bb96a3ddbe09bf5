"""What must never be written: the values of secrets this process knows, and their removal from any text.

Every text that goes to the store passes ``mask`` (``states.storable`` and the capture of output call it), and what
holds a value in its bytes is not journalled. Known forms of a value: as it is, as JSON and Python write it (also within
a text that was written so once more), quoted for a URL, HTML or a shell, in Base64 (also within that of a longer text,
and in lines), Base32 and hexadecimal, and each line of one of several lines. Costs one comparison while no secret is
known, and then a search for short pieces that are rare in other texts: nearly all texts hold none.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from typing import AnyStr, Final, NamedTuple

MASK: Final = "********"
SHORTEST: Final = 4
"""Shorter values are not masked: they would take every text apart."""

_SHORTEST_INNER: Final = 8
"""Shorter pieces of Base64 stand in too many texts."""

_ANCHOR: Final = 6
"""Letters of a form that are looked for before the forms themselves."""
_COMMON: Final = " etaoinsrlhdcu.0123456789mpgf_:-/wyb=,\\vkxjqz"
"""Letters of logs and code by how often they occur, as far as that matters: any other is rarer."""


class _Known(NamedTuple):
    """All that is masked; exchanged as one, so that no thread sees a part of it."""

    forms: frozenset[str]
    byte_forms: tuple[bytes, ...]
    """The longest first."""
    pattern: re.Pattern[str]
    byte_pattern: re.Pattern[bytes]
    anchors: re.Pattern[str]
    byte_anchors: re.Pattern[bytes]


_lock = threading.Lock()
_known: _Known | None = None
_listeners: list[Callable[[], None]] = []


def is_active() -> bool:
    """Whether any secret is known."""
    return _known is not None


def mask(text: str) -> str:
    """The text without the values of secrets."""
    known = _known
    if known is None or known.anchors.search(text) is None:
        return text
    return known.pattern.sub(MASK, text)


def mask_bytes(data: bytes) -> bytes:
    """As ``mask``, for raw output."""
    known = _known
    if known is None or known.byte_anchors.search(data) is None:
        return data
    return known.byte_pattern.sub(MASK.encode(), data)


def undecided(data: bytes) -> int:
    """How many bytes at the end may be the beginning of a secret's value: they wait for what comes after them."""
    known = _known
    if known is None or not data:
        return 0
    longest = 0
    for form in known.byte_forms:
        at = max(0, len(data) - len(form) + 1)
        while (at := data.find(form[:1], at)) >= 0 and len(data) - at > longest:
            if form.startswith(data[at:]):
                longest = len(data) - at
                break
            at += 1
    return len(data) - _outside(known.byte_pattern, data, len(data) - longest)


def decided_text(text: str) -> int:
    """How many characters of a text that goes on later may be passed on: no end of them begins a secret."""
    known = _known
    if known is None or not text:
        return len(text)
    longest = 0
    for form in known.forms:
        at = max(0, len(text) - len(form) + 1)
        while (at := text.find(form[:1], at)) >= 0 and len(text) - at > longest:
            if form.startswith(text[at:]):
                longest = len(text) - at
                break
            at += 1
    return _outside(known.pattern, text, len(text) - longest)


def _outside(pattern: re.Pattern[AnyStr], text: AnyStr, place: int) -> int:
    """The place, or the begin of the secret that it lies in: the end of one may begin another."""
    if place < len(text):
        for found in pattern.finditer(text):
            if found.end() > place:
                return min(place, found.start())
    return place


def longest_form() -> int:
    """Bytes of the longest form that is masked; 0 while none is known."""
    return 0 if _known is None else len(_known.byte_forms[0])


def end_of_secret_at(data: bytes, place: int) -> int:
    """Near ``place``, where bytes may be cut so that no end of a secret, which nothing knows, begins what follows."""
    known = _known
    if known is None or place <= 0:
        return place
    longest = len(known.byte_forms[0])
    for found in known.byte_pattern.finditer(data, max(0, place - longest), place + longest):
        if found.start() < place < found.end():
            return found.end()
    return place


def holds_secret(data: bytes) -> bool:
    """Whether the bytes hold the value of a secret."""
    known = _known
    return known is not None and known.byte_anchors.search(data) is not None and (
        known.byte_pattern.search(data) is not None
    )


def conceal(value: str) -> bool:
    """From now on this value is masked everywhere in this process; False when it is too short for that."""
    value = value.strip("\r\n")
    if len(value) < SHORTEST:
        return False
    if value not in _concealed:
        adopt(_forms_of(value))
        _concealed.add(value)
    return True


_concealed: set[str] = set()
"""Values whose forms are all masked."""


def known_forms() -> frozenset[str]:
    """Everything that is masked; for another process of the run, which adopts it."""
    return frozenset() if _known is None else _known.forms


def adopt(forms: Iterable[str]) -> None:
    """Mask what another process of the run masks."""
    global _known
    with _lock:
        before = known_forms()
        if before.issuperset(forms):
            return
        longest_first = sorted(before.union(forms), key=len, reverse=True)
        byte_forms = tuple(form.encode("utf-8", "replace") for form in longest_first)
        _known = _Known(
            frozenset(longest_first), byte_forms, re.compile("|".join(map(re.escape, longest_first))),
            re.compile(b"|".join(map(re.escape, byte_forms))), re.compile(_any_of(map(_anchor_of, longest_first))),
            re.compile(_any_of(_anchor_of(form.decode()) for form in byte_forms).encode()),
        )  # fmt: skip
        listeners = list(_listeners)
    for listener in listeners:
        listener()


def _anchor_of(form: str) -> str:
    """A few letters in a row that each text with the form holds: those that begin with its rarest letter."""
    places = range(max(1, len(form) - _ANCHOR + 1))
    at = min(places, key=lambda place: (-_COMMON.find(form[place]) if form[place] in _COMMON else -len(_COMMON)))
    return form[at : at + _ANCHOR]


def _any_of(anchors: Iterable[str]) -> str:
    """An expression for any of them, by first letters: most alternatives are given up at one comparison."""
    by_first: dict[str, set[str]] = {}
    for anchor in anchors:
        by_first.setdefault(anchor[0], set()).add(re.escape(anchor[1:]))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(sorted(rests))})" for first, rests in by_first.items())


def when_concealed(listener: Callable[[], None]) -> Callable[[], None]:
    """Call back at each new secret; returns what ends that."""
    with _lock:
        _listeners.append(listener)

    def stop() -> None:
        with _lock:
            if listener in _listeners:
                _listeners.remove(listener)

    return stop


def _within_base64(value: bytes) -> set[str]:
    """What is left of a value in the Base64 of a longer text, as ``user:token`` in an Authorization header."""
    from base64 import b64encode

    found = set()
    for before in range(3):
        text = b64encode(b"\0" * before + value).decode().rstrip("=")
        whole_bits = (before + len(value)) * 8
        inner = text[(before * 8 + 5) // 6 : whole_bits // 6]  # characters that no neighbour has a part in
        if len(inner) >= _SHORTEST_INNER:
            found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return found


def _in_lines(text: str) -> set[str]:
    """Long Base64 as programs fold it: mail and ``base64`` at 76 letters, PEM and OpenSSL at 64."""
    return {
        text[at : at + width] for width in (76, 64) if len(text) > width
        for at in range(0, len(text), width) if len(text) - at >= _SHORTEST_INNER
    }  # fmt: skip


def _forms_of(value: str) -> set[str]:
    from base64 import b32encode, b64encode, urlsafe_b64encode
    from html import escape
    from shlex import quote as shell_quote
    from urllib.parse import quote, quote_plus

    encoded = value.encode("utf-8", "replace")
    forms = {
        value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1],
        ascii(value)[1:-1], repr(value + "\"'")[1:-4], repr(encoded)[2:-1], repr(encoded + b"\"'")[2:-4],
        b64encode(encoded).decode(), urlsafe_b64encode(encoded).decode(), encoded.hex(), encoded.hex().upper(),
        encoded.hex(":"), encoded.hex(":").upper(), encoded.hex("-"), encoded.hex(" "),
        "".join(f"\\x{byte:02x}" for byte in encoded), b32encode(encoded).decode().rstrip("="),
        escape(value), escape(value, quote=False), shell_quote(f"{value} ")[1:-2],
    }  # fmt: skip
    once = json.dumps(value)[1:-1]
    forms |= {json.dumps(once)[1:-1], repr(once)[1:-1], once.replace("/", "\\/"), json.dumps(repr(value)[1:-1])[1:-1]}
    for encoding in ("ascii", "latin-1"):
        forms.add(value.encode(encoding, "backslashreplace").decode(encoding))
    forms.add(value.encode("unicode_escape").decode())
    forms |= _in_lines(b64encode(encoded).decode())
    for quoted in (quote(value, safe="", errors="replace"), quote_plus(value, errors="replace"),
                   quote(value, errors="replace")):  # fmt: skip
        forms |= {quoted, re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), quoted)}
    forms |= _within_base64(encoded)
    forms |= {line.strip() for line in value.splitlines()}
    return {form for form in forms if len(form) >= SHORTEST}
