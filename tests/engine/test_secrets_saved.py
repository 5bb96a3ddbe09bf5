"""``Secret(value=…).save(name)``: a file that only its owner may read, and nothing else anywhere."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from flowdeck import Secret, flow, task
from flowdeck.engine.errors import NotAllowed, NotFound, SecretExists, UsageError
from flowdeck.store.reader import Reader

VALUE = "surprise-party-on-the-15th"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where secrets are kept in this test; not there yet."""
    monkeypatch.setenv("FLOWDECK_SECRETS", str(tmp_path / "secrets"))
    return tmp_path / "secrets"


def test_saved_and_loaded(folder: Path) -> None:
    """For its owner only, whatever the umask; one that exists is kept unless said otherwise; no other file is left."""
    before = os.umask(0)
    try:
        assert Secret(value=VALUE).save("party") == "party"
    finally:
        os.umask(before)
    assert Secret.load("party").get() == VALUE
    assert (folder / "party").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(SecretExists, match="overwrite=True"):
        Secret(value="another-one-16").save("party")
    with pytest.raises(ValueError, match="party"):
        Secret(value="another-one-16").save("party")
    assert Secret("party").get() == VALUE
    made = Secret(value="another-one-16")
    assert made.get() == "another-one-16"
    made.save("party", overwrite=True)
    assert made == Secret("party")
    assert Secret("party").get() == "another-one-16"
    assert os.listdir(folder) == ["party"]


def test_awaited(folder: Path) -> None:
    """As Prefect's, also awaited in async code."""
    import asyncio

    async def main() -> str:
        await Secret(value=VALUE).save("party")  # type: ignore[misc]
        return (await Secret.load("party")).get()  # type: ignore[misc,no-any-return]

    assert asyncio.run(main()) == VALUE


def test_what_goes_before_a_file_is_not_hidden_by_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value saved and another one read would be worse than none."""
    monkeypatch.setenv("FLOWDECK_SECRET_PARTY", "from-the-environment")
    with pytest.raises(NotAllowed, match="FLOWDECK_SECRET_PARTY"):
        Secret(value=VALUE).save("party", overwrite=True)
    assert not folder.exists()


@pytest.mark.parametrize("value", [5, ["x"], b"bytes", "ends with a line\n", "\ud800", "x" * (1 << 20) + "x"])
def test_what_cannot_be_kept_is_refused(folder: Path, value: Any) -> None:
    """In words that do not show it; so is a secret that is neither or both."""
    with pytest.raises(UsageError, match="the value of a secret"):
        Secret(value=value)
    for wrong in ({}, {"name": "a", "value": "b-secret"}):
        with pytest.raises(UsageError, match=r"save"):
            Secret(**wrong)
    with pytest.raises(UsageError, match="name is made of"):
        Secret(value=VALUE).save("../x")
    with pytest.raises(NotFound):
        Secret.load("x")


def test_one_that_was_not_saved_is_stored_nowhere(store: Path, folder: Path, reader: Reader) -> None:
    """Neither shown nor pickled nor journalled; masked from the moment it is made."""
    unsaved = Secret(value=VALUE)
    assert VALUE not in repr(unsaved)
    with pytest.raises(UsageError, match="was not saved"):
        pickle.dumps(unsaved)

    @task
    def uses(secret: Secret) -> int:
        print("it is", secret.get())
        return len(secret.get())

    @flow
    def main(secret: Secret) -> int:
        return uses(secret)

    main.fn.__annotations__["secret"] = Secret
    assert main(unsaved) == len(VALUE)
    assert [line.message for line in reader.logs(1)] == ["it is ********"]
    run = reader.run(1)
    assert run is not None
    assert VALUE not in run.parameters
    assert not any(VALUE.encode() in path.read_bytes() for path in store.rglob("*") if path.is_file())


def test_saved_by_a_run(store: Path, folder: Path, reader: Reader) -> None:
    """A run that makes a secret writes it to its file and nowhere else; a later run finds it."""

    @task
    def makes() -> str:
        return Secret(value=VALUE).save("made-here")

    @flow
    def main() -> int:
        return len(Secret.load(makes()).get())

    assert main() == len(VALUE)
    assert not any(VALUE.encode() in path.read_bytes() for path in store.rglob("*") if path.is_file())


def test_a_place_that_others_may_write_is_refused_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write the folder, or one above it, exchanges the secret: not read, not written."""
    Secret(value=VALUE).save("party")
    for place, mode in ((folder, 0o777), (folder.parent, 0o777)):
        before = place.stat().st_mode & 0o7777
        place.chmod(mode)
        with pytest.raises(UsageError, match=rf"can be written by everybody.*chmod go-w {place}"):
            Secret("party").get()
        with pytest.raises(UsageError, match=f"chmod go-w {place}"):
            Secret(value="another-one-16").save("second")
        monkeypatch.setenv("FLOWDECK_TRUST", str(folder))
        assert Secret("party").get() == VALUE
        monkeypatch.delenv("FLOWDECK_TRUST")
        place.chmod(before)
    assert os.listdir(folder) == ["party"]
    if os.geteuid() == 0:
        os.chown(folder / "party", 1, 1)
        with pytest.raises(UsageError, match=r"belongs to .*not to you"):
            Secret("party").get()


def test_what_systemd_hands_over_is_read_though_its_mode_shows_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group's bits are those of an access list for the one user."""
    credential = tmp_path / "token"
    credential.write_text(VALUE)
    credential.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret("token").get() == VALUE
    credential.chmod(0o444)
    with pytest.raises(UsageError, match=r"can be read by others.*FLOWDECK_TRUST"):
        Secret("token").get()
