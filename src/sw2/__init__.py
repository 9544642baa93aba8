"""sw2: a toolchain for Software 2.0. People write the examples; optimisation finds the program.

>>> import sw2                                                              # doctest: +SKIP
>>> program = sw2.train("image-classification", "photos/", minutes=5)       # doctest: +SKIP
>>> program("cat.jpg")["label"]                                             # doctest: +SKIP
'cat'
>>> program.save("cats"); sw2.load("cats")                                  # doctest: +SKIP

Importing sw2 imports nothing heavy; torch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sw2.core.program import Program
    from sw2.faces.api import ask, estimate, evaluate, load, open_documents, plan, search, shrink, train

__all__ = [
    "Program",
    "Sw2Error",
    "__version__",
    "ask",
    "estimate",
    "evaluate",
    "load",
    "open_documents",
    "plan",
    "search",
    "shrink",
    "train",
]

_HOMES = {
    "Program": "sw2.core.program",
    "Sw2Error": "sw2.base.errors",
    "ask": "sw2.faces.api",
    "estimate": "sw2.faces.api",
    "evaluate": "sw2.faces.api",
    "load": "sw2.faces.api",
    "open_documents": "sw2.faces.api",
    "plan": "sw2.faces.api",
    "search": "sw2.faces.api",
    "shrink": "sw2.faces.api",
    "train": "sw2.faces.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("sw2")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sw2' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
