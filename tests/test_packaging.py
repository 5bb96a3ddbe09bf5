"""The wheel: nothing but ``flowdeck`` at the top level, everything it needs inside, usable without the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.xdist_group("wheel")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what git tracks, so that no file of this working tree slips in."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\0")
    for name in listed:
        if name and (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--no-build-isolation", "--wheel-dir", str(out), str(source)],
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_installs_no_top_level_name_but_flowdeck(wheel: Path) -> None:
    """``store``, ``engine``, ``tui`` and ``cli`` never shadow a user's own modules."""
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"flowdeck"}


def test_the_wheel_holds_every_package_and_its_data(wheel: Path) -> None:
    """Every package folder of ours is listed in pyproject.toml, and the files read at run time travel with it."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("cli", "engine", "store", "tui", "examples"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".sql", ".tcss", ".csv") and "__pycache__" not in path.parts:
                assert f"flowdeck/{path.relative_to(ROOT).as_posix()}" in names
    for path in (ROOT / "public").rglob("*.py"):
        assert f"flowdeck/{path.relative_to(ROOT / 'public').as_posix()}" in names
    assert "flowdeck/py.typed" in names


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """From an installed wheel alone, a flow runs, is recorded and is listed."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = tmp_path / "hello.py"
    script.write_text("from flowdeck import flow\n\n@flow\ndef hello():\n    print('hello from a wheel')\n\nhello()\n")
    environment = {**os.environ, "PYTHONPATH": str(site), "FLOWDECK_STORE": str(tmp_path / "store")}
    ran = subprocess.run(
        [sys.executable, str(script)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (0, "hello from a wheel\n"), ran.stderr
    listed = subprocess.run(
        [sys.executable, "-c",
         f"import flowdeck, sys; assert flowdeck.__file__.startswith({str(site)!r}), flowdeck.__file__;"
         "from flowdeck.cli.main import main; sys.exit(main(['ls', '--json']))"],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )
    assert listed.returncode == 0, listed.stderr
    assert '"flow":"hello"' in listed.stdout.replace(" ", "")


def test_the_version_is_said_once() -> None:
    """``pyproject.toml`` and ``flowdeck.__version__`` agree."""
    import flowdeck

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == flowdeck.__version__


def test_the_lock_holds_every_dependency_by_version_and_hashes() -> None:
    """``requirements.lock`` is what ``make lock`` makes of pyproject.toml: a dependency that was changed is missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]
    pinned: dict[str, str] = {}
    for entry in (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split("--hash=sha256:")
        name, _, version = requirement.partition(";")[0].strip().partition("==")
        assert version, f"no exact version: {entry[:60]}"
        assert hashes, f"no hash: {name}"
        assert all(re.fullmatch(r"[0-9a-f]{64}", one.strip()) for one in hashes), name
        pinned[canonicalize_name(name)] = version
    wrong = [str(one) for one in wanted
             if (version := pinned.get(canonicalize_name(one.name))) is None or not one.specifier.contains(version)]
    assert wrong == [], "run `make lock`"
