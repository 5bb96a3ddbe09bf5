"""What a shell command says: its streams as lines, with their end kept, and its ``$FLOWDECK_OUTPUT`` file."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ..secrets.masking import end_of_secret_at, longest_form, undecided

KEPT_BYTES: Final = 1024 * 1024
"""So much of the end of each stream is in the result; the log has all of it."""
MAX_LINE: Final = 64 * 1024

class Stream:
    """One of the two streams: whole lines go on, the end is kept."""

    def __init__(self, name: str, level: int) -> None:
        self.name = name
        self.level = level
        self._partial = bytearray()
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that are whole now."""
        self._kept.append(data)
        self._kept_bytes += len(data)
        while self._kept_bytes - len(self._kept[0]) >= KEPT_BYTES + longest_form():
            self._kept_bytes -= len(self._kept.popleft())
        self._partial += data
        lines = []
        while (end := self._partial.find(b"\n")) >= 0 or len(self._partial) >= MAX_LINE:
            cut = end if 0 <= end < MAX_LINE else _place_to_cut(self._partial)
            lines.append(text_of(self._partial[:cut]))
            del self._partial[: cut + (cut == end)]
        return lines

    def rest(self) -> list[str]:
        """What came without an end of line."""
        rest, self._partial = bytes(self._partial), bytearray()
        return [text_of(rest)] if rest else []

    def text(self) -> str:
        """The end of the stream."""
        whole = b"".join(self._kept)
        return text_of(whole[end_of_secret_at(whole, max(0, len(whole) - KEPT_BYTES)) :])


def _place_to_cut(line: bytearray) -> int:
    """Where a line that is too long is cut: within no character, and within nothing that is to be masked."""
    cut = MAX_LINE
    while cut > MAX_LINE - 4 and line[cut : cut + 1] and line[cut] & 0xC0 == 0x80:
        cut -= 1
    return (cut - undecided(bytes(line[:cut]))) or cut


def text_of(data: bytes | bytearray) -> str:
    """As text, whatever the bytes are."""
    return data.decode("utf-8", "replace").removesuffix("\r")


def read_outputs(path: str, say: Callable[[int, str, str], None]) -> dict[str, Any]:
    """``key=value``, ``key<<END`` … ``END``, and JSON objects, line by line; later ones win."""
    with open(path, "rb") as file:
        data = file.read(KEPT_BYTES + 1)
    if len(data) > KEPT_BYTES:
        say(30, "log", f"$FLOWDECK_OUTPUT holds more than {KEPT_BYTES // 2**20} MiB: what is beyond is left out")
    outputs: dict[str, Any] = {}
    lines = iter(text_of(data[:KEPT_BYTES]).splitlines())
    for line in lines:
        if not line.strip():
            continue
        key, mark, end = line.partition("<<")
        if line.startswith("{"):
            try:
                outputs.update(json.loads(line))
                continue
            except ValueError:
                pass  # said below, as any line that is none of these
        elif mark and key and "=" not in key:
            block = []
            for inner in lines:
                if inner == end:
                    break
                block.append(inner)
            outputs[key] = "\n".join(block)
            continue
        elif "=" in line and not line.startswith("="):
            key, _, value = line.partition("=")
            outputs[key.strip()] = value
            continue
        say(30, "log", f"$FLOWDECK_OUTPUT: neither key=value nor a JSON object, left out: {line[:80]!r}")
    return outputs
