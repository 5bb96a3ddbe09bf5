"""``flowdeck_test_harness``: what runs within it is recorded in a store of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flowdeck import Variable, flow, flowdeck_test_harness
from flowdeck.store.reader import Reader
from flowdeck.testing.utilities import prefect_test_harness


def test_runs_go_elsewhere_and_are_gone(store: Path, reader: Reader) -> None:
    """The real store hears of nothing, also when the block raises; blocks nest."""

    @flow
    def one() -> int:
        return 42

    with flowdeck_test_harness() as folder:
        assert one() == 42
        Variable.set("x", 1)
        with prefect_test_harness(server_startup_timeout=60):
            assert Variable.get("x") is None
        assert Variable.get("x") == 1
        with Reader(folder) as inside:
            assert [run.flow_name for run in inside.runs()] == ["one"]
    with pytest.raises(KeyError), flowdeck_test_harness():
        raise KeyError
    assert not folder.exists()
    assert os.environ["FLOWDECK_STORE"] == str(store)
    assert reader.runs() == []
