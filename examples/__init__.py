"""Real pipelines to look at, to run and to copy from; ``flowdeck demo`` runs them all.

Each file is a plain flow file, as a user would write it: it imports only ``flowdeck`` and what its own work needs,
and runs by ``python FILE``, by ``flowdeck run FILE``, or on its schedule under ``flowdeck daemon FOLDER``.

- ``box_health.py``: this machine's disks, memory, load and largest processes, every 10 seconds
- ``weather.py``: Seattle's weather 2012–2015, validated, summed up by month, stored, and told in a report
- ``tour.py``: made up, so that a newcomer sees what can become of a task; it ends FAILED, on purpose
- ``etl_workflow.py``: a flow in Prefect 1's style, unchanged

``seattle-weather.csv`` holds daily observations by NOAA (public domain) as the PyPI package vega-datasets 0.9.0
carries them. Where an example keeps a database of its own, its parameter ``warehouse`` says where.
"""

from __future__ import annotations

from typing import Final

EXPECTED: Final[dict[str, str]] = {
    "box-health": "COMPLETED",
    "weather": "COMPLETED",
    "tour": "FAILED",
    "ETL Workflow": "COMPLETED",
}
"""Flow name → the state type a run of it ends in. The tour's last stop is a task that fails on purpose."""
