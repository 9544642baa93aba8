"""The named text that sw2 makes by itself: what Python's standard library says of itself.

`python-docstrings` are the docstrings of the library's modules, classes and functions, a paragraph a line, written once
into sw2's home for each version of Python. Some hundred thousand words of one trade: enough to try everything, not to
find out what words mean elsewhere.

What it does not do: other texts (`corpus` reads them).
"""

from __future__ import annotations

import ast
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sw2.base.store import home, is_file, write_text

__all__ = ["NAMED", "path_of"]

NAMED: Final = "python-docstrings"
_LEFT_OUT: Final = frozenset({"test", "tests", "idlelib", "lib2to3", "idle_test", "site-packages", "dist-packages"})


def path_of(source: str) -> Path:
    """The text at `source`: a path, or the named text, which is made if it is not there."""
    if source != NAMED or Path(source).exists():
        return Path(source)
    path = home() / "words" / f"{NAMED}-{platform.python_version()}.txt"
    if not is_file(path):
        root = Path(sysconfig.get_paths()["stdlib"])
        files = (file for file in sorted(root.rglob("*.py")) if not _LEFT_OUT & set(file.relative_to(root).parts))
        write_text(path, "".join(f"{paragraph}\n" for file in files for paragraph in _paragraphs(file)))
    return path


def _paragraphs(file: Path) -> Iterator[str]:
    """The paragraphs of a file's docstrings, each on one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library's own escapes
            tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                if paragraph.strip():
                    yield " ".join(paragraph.split())
