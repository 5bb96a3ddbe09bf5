"""Which source files are the package's own: what stands in a traceback between two lines of the user's is left out."""

from __future__ import annotations

import os
from typing import Final

ENGINE_FOLDER: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
PACKAGE_FOLDER: Final = os.path.dirname(os.path.dirname(ENGINE_FOLDER)) + os.sep
"""That of all our modules: in a checkout the repository's."""
_OWN: Final = tuple(f"{PACKAGE_FOLDER}{folder}{os.sep}" for folder in ("engine", "store", "cli"))


def is_own(path: str) -> bool:
    """Whether a source file is the engine's, the store's or the command line's, or of the import system itself."""
    return path.startswith((*_OWN, "<frozen"))
