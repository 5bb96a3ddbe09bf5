"""The state of a completed task or flow whose value is not kept in memory: read from the store when it is asked for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from ...store import files
from ...store.connection import connect
from ...store.tables import results
from ..errors import ResultUnreadable
from ..states.state import State
from . import codec


class StoredState(State):
    """A completed state that holds no value; whoever asks gets one, and lets it go again."""

    __module__ = "flowdeck"

    __slots__ = ("_folder", "_run_id", "_seq")

    def __init__(self, name: str, message: str | None, folder: Path, run_id: int, seq: int) -> None:
        super().__init__("COMPLETED", name, message)
        self._folder = folder
        self._run_id = run_id
        self._seq = seq

    @property
    def data(self) -> Any:
        """The value, from its row or file; raises ``ResultUnreadable`` when that is gone."""
        with closing(connect(self._folder, "state", readonly=True)) as connection:
            stored = results.get(connection, self._run_id, self._seq)
        if stored is None:
            raise ResultUnreadable(f"the result of {self._run_id}/{self._seq} is not in the store any more")
        if stored.path is None:
            return codec.decode(stored.codec, stored.data or b"", stored.checksum)
        try:
            with open(files.open_to_read(self._folder, stored.path), "rb") as file:
                return codec.decode_file(stored.codec, file, stored.checksum)
        except OSError as error:
            raise ResultUnreadable(f"the result of {self._run_id}/{self._seq} cannot be read: {error}") from error

    def has_data(self) -> bool:
        """It has a value, though not here."""
        return True
