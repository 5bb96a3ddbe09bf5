"""Results as rows, large ones as files beside the database: stored, read again, removed.

A file is durable before the row that names it is handed to the writer. What cannot be stored fails nobody: the value
goes on, the log says that it is made again after a crash.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ....store.rows import ResultRow
from ...encoding import codec

if TYPE_CHECKING:
    from ....store.result_files import ResultFiles
    from ...encoding.codec import Encoded
    from ..calls.task_call import TaskCall
    from ..output.capture import RunLog

INLINE_BYTES: Final = 64 * 1024
"""A larger result becomes a file beside the database."""


class ResultStore:
    """The results of one root run; from any thread."""

    def __init__(self, folder: Path, log: RunLog) -> None:
        self._folder = folder
        self._log = log

    @cached_property
    def files(self) -> ResultFiles:
        """Those of large results; the module is loaded with the first."""
        from ....store.result_files import ResultFiles

        return ResultFiles(self._folder)

    def store(self, run_id: int, seq: int, encoded: Encoded) -> ResultRow:
        """The row for a result; a large one is written to its file first, durable before the row is."""
        data, path = encoded.data, None
        if data is not None and len(data) > INLINE_BYTES:
            try:
                path = self.files.write(run_id, seq, data)
            except OSError as error:
                return self._not_stored(run_id, seq, encoded.preview, error)
        size = len(data) if data is not None else 0
        inline = data if path is None else None
        return ResultRow(run_id, seq, encoded.codec, encoded.checksum, size, inline, path, encoded.preview)

    def store_large(self, call: TaskCall, value: Any) -> ResultRow:
        """As ``store``, of a value that goes to its file as it is pickled."""
        run_id, seq = call.run.id, call.seq
        try:
            path, size_bytes, encoded = self.files.fill(run_id, seq, lambda file: codec.encode_into(value, file))
        except OSError as error:
            return self._not_stored(run_id, seq, codec.preview(value), error)
        if encoded.codec == "none":
            self.remove([path])
            self.tell_not_stored(call, encoded)
            return self.store(run_id, seq, encoded)
        return ResultRow(run_id, seq, encoded.codec, encoded.checksum, size_bytes, None, path, encoded.preview)

    def _not_stored(self, run_id: int, seq: int, preview: str, error: OSError) -> ResultRow:
        """The disk did not take the file of a result: the value goes on, and is made again after a crash."""
        text = f"the result is not journalled and is made again after a crash: its file cannot be written: {error}"
        self._log.line(run_id, seq or None, 30, text)
        return ResultRow(run_id, seq, "none", "", 0, None, None, preview)

    def tell_not_stored(self, call: TaskCall, encoded: Encoded) -> None:
        """Say in the log what it means that a result cannot be kept."""
        self._log.task(
            call, 30, f"the result of {call.name} is not journalled and runs again after a crash: {encoded.reason}"
        )

    def value(self, row: ResultRow) -> Any:
        """The value of a stored result; raises ``ResultUnreadable`` or OSError when it cannot be had."""
        if row.path is not None:
            with self.files.open(row.path) as file:
                return codec.decode_file(row.codec, file, row.checksum)
        return codec.decode(row.codec, row.data or b"", row.checksum)

    def data(self, row: ResultRow) -> bytes:
        """The stored bytes of a result, from the row or its file."""
        if row.path is None:
            return row.data or b""
        with self.files.open(row.path) as file:
            return file.read()

    def remove(self, paths: list[str]) -> None:
        """Remove files of results that no row names any more."""
        for path in paths:
            self.files.remove(path)
