"""The file that gensim 4 makes of `KeyedVectors.save`, read without running what stands in it.

It is a pickle, and a pickle is a program: unpickling calls whatever function it names. Here the stream is only parsed,
by `pickletools.genops`, and what it would construct becomes an inert record of names and arguments: no name is looked
up, nothing is imported or called. Of the records the word list, the matrix and the counts are taken.

    KeyedVectors
      index_to_key   list of words
      vectors        a numpy array inside, or beside in PATH.vectors.npy when it is large
      expandos       {"count": a numpy array, …}

Source: Python's `pickletools` documents each operation; gensim 4's `models/keyedvectors.py` and `utils.py` the fields.

What it does not do: gensim before 4, whole models (`Word2Vec.save`), n-grams of its fastText; two million words take a
minute or so, since parsing is done in Python.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import DataError
from sw2.base.store import is_file

__all__ = ["keyed_vectors"]

_CLASSES: Final = {
    "gensim.models.keyedvectors KeyedVectors",
    "gensim.models.fasttext FastTextKeyedVectors",
}
_NUMBERS: Final = {"f2", "f4", "f8", "i4", "i8", "u4", "u8"}


@dataclass(eq=False)
class _Record:
    """What a pickle would construct: `name(*arguments)`, then given `state`."""

    name: Any
    arguments: Any
    state: Any = None


def keyed_vectors(path: Path, file: IO[bytes]) -> tuple[list[str], NDArray[np.float32], NDArray[np.int64] | None]:
    """Words, float32 [words, dimensions] and counts int64 [words], not checked for NaN and words that are there twice.

    Args:
        path: of the file; an array beside it is looked for under this name.
        file: its bytes, at the start.

    Raises:
        DataError: it is another pickle, or a damaged one.
    """
    try:
        saved = _parsed(file)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    name = saved.name if isinstance(saved, _Record) else type(saved).__name__
    if name not in _CLASSES or not isinstance(saved.state, dict):
        raise DataError(
            "This pickle holds something else than word vectors.",
            where=path,
            wanted="KeyedVectors, saved by gensim 4",
            got=str(name).replace(" ", ".")[:200],
            do="In gensim: model.wv.save(PATH), or model.wv.save_word2vec_format(PATH, binary=True).",
        )
    words = saved.state.get("index_to_key")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _damaged(path, "no list of words, index_to_key")
    matrix = _array(saved.state.get("vectors"))
    if matrix is None and "vectors" in _names(saved.state.get("__numpys")):
        matrix = _beside(path.with_name(path.name + ".vectors.npy"))
    if matrix is None or matrix.ndim != 2 or not matrix.shape[1]:
        raise _damaged(path, "no matrix, vectors")
    if len(words) == 0 or len(words) != len(matrix):
        raise _damaged(path, f"{len(words)} words and {len(matrix)} vectors")
    expandos = saved.state.get("expandos")
    counts = _array(expandos.get("count")) if isinstance(expandos, dict) else None
    if counts is not None and (counts.shape != (len(words),) or counts.dtype.kind not in "iu"):
        raise _damaged(path, f"counts of shape {counts.shape} for {len(words)} words")
    return words, matrix.astype(np.float32, copy=False), None if counts is None else counts.astype(np.int64)


def _damaged(path: Path, got: str) -> DataError:
    return DataError(
        "These word vectors of gensim cannot be read.",
        where=path,
        wanted="KeyedVectors, saved by gensim 4",
        got=got,
        do="In gensim: KeyedVectors.load(PATH).save_word2vec_format(OTHER, binary=True), and open that.",
    )


def _names(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _beside(path: Path) -> np.ndarray:
    if not is_file(path):
        raise DataError(
            "The matrix of these vectors is not there.",
            where=path,
            wanted="the array that gensim saved beside",
            got="nothing there",
            do="Copy it beside, under this name.",
        )
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _damaged(path, str(error)) from error


def _array(record: Any) -> np.ndarray | None:
    """The array that a record of numpy's describes; None for anything else."""
    match record:
        case _Record(
            name="numpy._core.multiarray _reconstruct" | "numpy.core.multiarray _reconstruct",
            state=(
                1,
                tuple(shape),
                _Record(name="numpy dtype", arguments=(str(code), *_), state=(3, "<" | "|", None, *_)),
                bool(fortran),
                bytes(content),
            ),
        ) if code in _NUMBERS and all(type(each) is int and each >= 0 for each in shape):
            values = np.frombuffer(content, f"<{code}")
            count = int(np.prod(shape, dtype=object))
            return values.reshape(shape, order="F" if fortran else "C") if count == len(values) else None
    return None


def _parsed(file: IO[bytes]) -> Any:
    """The one value of a pickle, with inert records for whatever it would construct.

    Raises:
        ValueError and other plain errors: an operation that gensim's files do not have, or a damaged stream.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    mark = object()

    def since_mark() -> list[Any]:
        start = len(stack) - 1
        while stack[start] is not mark:
            start -= 1
        taken = stack[start + 1 :]
        del stack[start:]
        return taken

    for operation, argument, _ in pickletools.genops(file):
        match operation.name:
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(argument)
            case "BINFLOAT" | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                stack.append(mark)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(operation.name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "FROZENSET":
                stack.append(frozenset(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(operation.name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "APPEND":
                stack[-2].append(stack[-1])
                stack.pop()
            case "APPENDS":
                taken = since_mark()
                stack[-1].extend(taken)
            case "SETITEM":
                stack[-3][stack[-2]] = stack[-1]
                del stack[-2:]
            case "SETITEMS":
                taken = since_mark()
                stack[-1].update(zip(taken[::2], taken[1::2], strict=True))
            case "GLOBAL":
                stack.append(argument)
            case "STACK_GLOBAL":
                stack[-2:] = [f"{stack[-2]} {stack[-1]}"]
            case "NEWOBJ" | "REDUCE":
                stack[-2:] = [_Record(stack[-2], stack[-1])]
            case "BUILD":
                stack[-2].state = stack[-1]
                stack.pop()
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"an operation {other}")
    raise ValueError("no end")
