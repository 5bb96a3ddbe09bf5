"""Prefect's name for the module: ``from flowdeck.testing.utilities import prefect_test_harness``."""

from __future__ import annotations

from ..engine.harness import flowdeck_test_harness as flowdeck_test_harness
from ..engine.harness import prefect_test_harness as prefect_test_harness
