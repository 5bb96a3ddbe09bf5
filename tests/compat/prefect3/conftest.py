"""Where the flows of these tests are recorded, and the report of ``make compat-prefect``.

With flowdeck every test has a store of its own; with Prefect the session has one server under Prefect's own harness.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

PREFECT = os.environ.get("FLOWDECK_COMPAT") == "prefect"

if PREFECT:
    # Read when prefect is imported.
    os.environ["PREFECT_HOME"] = mkdtemp(prefix="compat-prefect-")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"

    @pytest.fixture(scope="session", autouse=True)
    def harness() -> Iterator[None]:
        """One server for the session; without heartbeats, which make every flow call a second longer."""
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        quick = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
        with prefect_test_harness(server_startup_timeout=120), quick:
            yield

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(terminalreporter: Any) -> None:
        """How many behaviours agree, which differ by design and why, which fail."""
        stats = terminalreporter.stats
        agree, differ = len(stats.get("passed", [])), stats.get("skipped", [])
        failed = stats.get("failed", []) + stats.get("error", [])
        write = terminalreporter.write_line
        terminalreporter.section("agreement with Prefect")
        write(f"{agree} agree, {len(differ)} differ by design, {len(failed)} fail")
        for report in differ:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            write(f"  {report.nodeid.split('/')[-1]}: {str(reason).removeprefix('Skipped: ')}")

else:

    @pytest.fixture(autouse=True)
    def own_store(store: Path) -> Path:
        """A store of this test's own."""
        return store


class Log(list[Any]):
    """What user code noted, in order."""

    def __call__(self, item: Any) -> Any:
        self.append(item)
        return item


@pytest.fixture
def noted() -> Log:
    """``noted(x)`` in user code; compare the list."""
    return Log()
