"""For the tests of users' flows: ``from flowdeck.testing import flowdeck_test_harness``."""

from __future__ import annotations

from flowdeck.engine.sdk.harness import flowdeck_test_harness as flowdeck_test_harness
from flowdeck.engine.sdk.harness import prefect_test_harness as prefect_test_harness
