"""The end of the terminal: the console ends with it, spins on nothing and restores nothing that is gone.

What is read from a terminal that was hung up is always ready and always empty, and what is written to it fails; also
where the signal of it is ignored, as under ``nohup``.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable


class Terminal:
    """What the console was started in. Made and asked in the thread of its event loop."""

    def __init__(self) -> None:
        self._descriptors = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
        self._hung_up: select.epoll | None = None

    @property
    def is_gone(self) -> bool:
        """Whether any of what was a terminal is none any more."""
        return not all(os.isatty(descriptor) for descriptor in self._descriptors)

    def watch(self, gone: Callable[[], None]) -> None:
        """Have ``gone`` called in the running event loop when it is gone.

        Where the kernel does not tell (another system than Linux) nothing happens: ``is_gone`` is asked now and then.
        """
        if not hasattr(select, "epoll") or not self._descriptors:
            return
        self._hung_up = select.epoll()
        self._hung_up.register(self._descriptors[0], 0)  # nothing but its end, of which epoll tells in any case
        asyncio.get_running_loop().add_reader(self._hung_up.fileno(), gone)

    def let_go(self) -> None:
        """Watch it no more. If it is gone, nothing is read from it and what is written to it is thrown away."""
        if self._hung_up is not None:
            asyncio.get_running_loop().remove_reader(self._hung_up.fileno())
            self._hung_up.close()
            self._hung_up = None
        if not self.is_gone:
            return
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._descriptors:
            os.dup2(null, descriptor)
        os.close(null)
        self._descriptors = []
