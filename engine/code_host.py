"""The name by which a daemon or run of the version before starts code hosts; kept until those have ended."""

from __future__ import annotations

from .running.run_process.code_host import _exit, main

if __name__ == "__main__":
    _exit(main())
