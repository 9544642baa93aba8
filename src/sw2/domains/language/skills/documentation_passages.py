"""What passages are made of: the documented things of Python's modules, of a package, or of a folder of Markdown.

    entries("python")["train"]     the entries of each module that is in train: functions, classes, methods
    entries("numpy")["test"]       any installed package by name
    entries("docs/")["test"]       a folder of Markdown: each heading with the prose below it
    sentences(entry.text)          ["Recursively copy a directory tree and return ...", ...]

Python files are parsed, never imported. Private names and tests are left out, and so is what has no prose to ask about:
the first sentence of an entry has 4 to 32 words, and its text ends before the first list, table or example.

Splits differ in modules (of the standard library: by the first name; of Markdown: by file) and in content: an entry
whose first sentence stands elsewhere too is nobody's.

What it does not do: read other markup than Markdown, or know what only running code would tell.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sw2.base.errors import DataError, UsageError
from sw2.domains.language.skills.basis import Split, split_of

__all__ = ["PYTHON", "Entry", "entries", "sentences"]

PYTHON: Final = "python"

_LEFT_OUT: Final = frozenset(
    {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "__pycache__", "site-packages"}
)
# Modules that are one in two files, or have each other's words.
_TWINS: Final = {"posixpath": "os", "ntpath": "os", "genericpath": "os", "dummy_threading": "threading"}
# Of an entry in a passage.
_MOST_WORDS: Final = 70


@dataclass(frozen=True)
class Entry:
    """A documented thing.

    Args:
        module: what it is held out by.
        name: as one writes it, "shutil.copytree"; of Markdown the heading.
        arguments: each argument and its default, None where it has none.
        text: its documentation, paragraphs cleaned.
    """

    module: str
    name: str
    arguments: tuple[tuple[str, str | None], ...] | None
    text: str

    @property
    def key(self) -> str:
        """The first sentence."""
        return sentences(self.text)[0]

    @property
    def passage(self) -> str:
        """The entry as it stands in a passage: head and whole sentences up to some seventy words."""
        kept, words = list[str](), 0
        for sentence in sentences(self.text):
            words += len(sentence.split())
            if kept and words > _MOST_WORDS:
                break
            kept.append(sentence)
        return f"{self.head}\n{' '.join(kept)}"

    @property
    def head(self) -> str:
        """The name with its arguments, or the heading."""
        if self.arguments is None:
            return f"# {self.name}"
        return (
            f"{self.name}({', '.join(each if value is None else f'{each}={value}' for each, value in self.arguments)})"
        )


@functools.cache
def entries(source: str) -> Mapping[Split, Sequence[Sequence[Entry]]]:
    """The documented things of a source by split, those of a module together.

    Args:
        source: "python", an installed package's name, or a folder of Markdown.

    Raises:
        UsageError: there is no such package or folder.
        DataError: nothing there is documented.
    """
    found = list(_read(source))
    times = Counter(entry.key for entry in found)
    modules: dict[str, list[Entry]] = {}
    for entry in found:
        if times[entry.key] == 1:
            modules.setdefault(entry.module, []).append(entry)
    if not modules:
        raise DataError(
            "Nothing here is documented.", where=source, wanted="docstrings, or headings with text", got="none"
        )
    splits: dict[Split, list[Sequence[Entry]]] = {"train": [], "validation": [], "test": []}
    for module, held in modules.items():
        splits[split_of(module)].append(held)
    return splits


def _read(source: str) -> Iterator[Entry]:
    if source == PYTHON:
        root = Path(sysconfig.get_paths()["stdlib"])
        for name in sorted(sys.stdlib_module_names):
            if not name.startswith("_") and name not in _LEFT_OUT:
                for module, file in _python_files(root, name):
                    yield from _python(_TWINS.get(name, name), module, file)
    elif (folder := Path(source)).is_dir():
        for file in sorted(folder.rglob("*.md")):
            yield from _markdown(file.relative_to(folder).as_posix(), file)
    else:
        try:
            spec = importlib.util.find_spec(source) if source.isidentifier() else None
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise UsageError(
                "There is no such documentation.",
                wanted=f"'{PYTHON}', an installed package's name, or a folder of Markdown",
                got=source,
            )
        root = Path(spec.origin).parent
        for module, file in _python_files(root.parent if spec.submodule_search_locations else root, source):
            yield from _python(module, module, file)


def _python_files(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The modules of a name below `root`, private ones and tests left out."""
    if (single := root / f"{name}.py").is_file():
        yield name, single
    folder = root / name
    for file in sorted(folder.rglob("*.py")) if (folder / "__init__.py").is_file() else ():
        parts = [name, *file.relative_to(folder).with_suffix("").parts]
        if not any(part in _LEFT_OUT or (part.startswith("_") and part != "__init__") for part in parts):
            yield ".".join(part for part in parts if part != "__init__"), file


def _python(held_by: str, module: str, file: Path) -> Iterator[Entry]:
    """The functions and classes of a module, and the methods of these."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in tree.body:
        yield from _documented(held_by, module, node)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                yield from _documented(held_by, f"{module}.{node.name}", inner)


def _documented(held_by: str, prefix: str, node: ast.stmt) -> Iterator[Entry]:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
        return
    text = _cleaned(ast.get_docstring(node) or "")
    if not text:
        return
    arguments = () if isinstance(node, ast.ClassDef) else _arguments(node.args)
    if isinstance(node, ast.ClassDef):
        makers = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        arguments = _arguments(makers[0].args) if makers else ()
    if sum(len(each) + len(value or "") for each, value in arguments) <= 100:
        yield Entry(held_by, f"{prefix}.{node.name}", arguments, text)


def _arguments(args: ast.arguments) -> tuple[tuple[str, str | None], ...]:
    plain = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    named: list[tuple[str, ast.expr | None]] = [(each.arg, value) for each, value in zip(plain, defaults)]
    named += [(f"*{args.vararg.arg}", None)] if args.vararg else []
    named += [(each.arg, value) for each, value in zip(args.kwonlyargs, args.kw_defaults)]
    named += [(f"**{args.kwarg.arg}", None)] if args.kwarg else []
    left = [(name, None if value is None else ast.unparse(value)) for name, value in named]
    return tuple((name, value) for name, value in left if name not in ("self", "cls"))


def _markdown(held_by: str, file: Path) -> Iterator[Entry]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return
    text = re.sub(r"(?ms)^(```|~~~).*?^\1\s*$", "", text)
    for heading, body in re.findall(r"(?ms)^#{1,6} +(.+?)\s*#*\s*$(.*?)(?=^#{1,6} |\Z)", text):
        prose = [part for part in re.split(r"\n\s*\n", body) if not re.match(r"\s*([|>*+<-]|\d+\.|    )", part)]
        prose = [re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", part) for part in prose]
        if cleaned := _cleaned("\n\n".join(prose)):
            yield Entry(held_by, heading.strip("`* "), None, cleaned)


def _cleaned(docstring: str) -> str:
    """Prose of a docstring in one line, "" when its first sentence is none."""
    parts = []
    for part in re.split(r"\n\s*\n", docstring.strip()):
        if re.search(r"^\s*(>>>|[-*=~+|]{2,})|::\s*$|^\s*[\w*]+ *(--|:) |^\s*[-*:.]", part, re.M) or "\n  " in part:
            break
        parts.append(" ".join(part.split()))
    parts = [part for part in parts if part and not part.endswith(":")]
    text = " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts).replace("..", ".")
    first = sentences(text)[0] if text else ""
    words = first.split()
    proper = re.match(r"[A-Z`][\w`'-]* ", first) and not re.search(r"[<>{}|\\]|->", text) and text.isascii()
    return text if proper and 4 <= len(words) <= 32 else ""


def sentences(text: str) -> list[str]:
    """The sentences of a text; "e.g." and the like end none."""
    return re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.) +(?=[A-Z`(])", text)
