"""The name by which a run of the version before starts its fork server; kept until such runs have ended."""

from __future__ import annotations

import sys

from .running.runners.fork_server import main

if __name__ == "__main__":
    sys.exit(main())
