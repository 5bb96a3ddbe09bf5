from __future__ import annotations

import sys
from pathlib import Path

import pytest
from flowdeck.store.errors import StoreUnsupported
from flowdeck.store.location import filesystem_type, find_store


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLOWDECK_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_what_is_named_wins_over_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--store beats FLOWDECK_STORE, which beats a .flowdeck folder near by."""
    project = tmp_path / "project"
    (project / ".flowdeck").mkdir(parents=True)
    monkeypatch.chdir(project)
    monkeypatch.setenv("FLOWDECK_STORE", str(tmp_path / "environment"))
    assert find_store(tmp_path / "named") == tmp_path / "named"
    assert find_store() == tmp_path / "environment"
    monkeypatch.delenv("FLOWDECK_STORE")
    assert find_store() == project / ".flowdeck"


def test_the_nearest_folder_upwards_is_found_from_deep_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow run from any folder of a project uses the project's store."""
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "project" / ".flowdeck").mkdir()
    monkeypatch.chdir(deep)
    assert find_store() == tmp_path / "project" / ".flowdeck"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own place")
def test_without_any_it_is_the_user_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No project: the user's data folder; a relative XDG_DATA_HOME is ignored, as its specification says."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert find_store() == tmp_path / "data" / "flowdeck"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_store() == tmp_path / ".local" / "share" / "flowdeck"


def test_finding_makes_nothing(tmp_path: Path) -> None:
    """Asking where a store is leaves the disk as it was."""
    find_store(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("address", ["postgresql+psycopg://u:pw@host/db", "postgres://host/db", "mysql://host/db"])
def test_addresses_are_refused_without_repeating_a_password(address: str) -> None:
    """A URL gets a clear refusal, and the password in it is not printed."""
    with pytest.raises(StoreUnsupported) as caught:
        find_store(address)
    assert "local disk" in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """Naming state.db instead of its folder says so."""
    file = tmp_path / "state.db"
    file.touch()
    with pytest.raises(StoreUnsupported, match="a store is a folder"):
        find_store(file)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/mounts")
def test_the_file_system_of_a_path_is_known() -> None:
    """The longest mount point that holds the path decides."""
    assert filesystem_type(Path("/proc/self")) == "proc"
    assert filesystem_type(Path("/")) != ""
