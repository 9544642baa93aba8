"""Shapes in names, held true while tests run.

In sw2 a tensor's name carries its shape: `x_BTD` has three axes, and whatever else is called `…_BT` in the same call
has the same B and the same T. One letter alone names the last axis and leaves open what stands before it: `x_D` is
[..., D]. A name that lies misleads every reader after it, so tests check them all:

    check_names_in("my_package")            before my_package is imported, in conftest.py

From then on each function of the package that has such names is checked at every call, when it begins (its arguments)
and when it returns (its arguments and all its local variables). The name `x_BTD` is read as jaxtyping's
`Shaped[Tensor, "B T D"]`, `x_D` as "... D"; one call is one jaxtyping context, in which an axis has one size. A local
`B = 3` takes part too. A wrong one raises ShapeError with all the shapes of the call.

Notable: the checked code needs no annotation, no decorator and no jaxtyping. Its functions are wrapped as their module
is imported, and what a call leaves in its variables is seen through `sys.setprofile`. While torch compiles or exports,
nothing is checked: the function itself is what it sees.

Not here: dtypes; names on attributes, in generators and in nested functions; packages that were imported before.

Sources: jaxtyping, https://docs.kidger.site/jaxtyping; the habit: Shazeer 2024, "Shape suffixes",
https://medium.com/@NoamShazeer/shape-suffixes-good-coding-style-f836e72e24fd.
"""

from __future__ import annotations

import functools
import importlib.machinery
import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, jaxtyped

__all__ = ["ShapeError", "check_names_in"]

_NAME = re.compile(r"_?[a-z]\w*_([A-Z]+)")
_SIZE = re.compile(r"[A-Z]")


class ShapeError(AssertionError):
    """A tensor whose shape is not what its name says."""


def check_names_in(*packages: str) -> None:
    """Check the names in all modules of `packages` that are imported from here on."""
    loaded = [name for name in sys.modules if name.startswith(tuple(f"{package}." for package in packages))]
    assert not loaded, f"too late: {', '.join(sorted(loaded))} would stay unchecked"
    sys.meta_path.insert(0, _Finder(packages))


class _Finder:
    """Finds modules of the packages where Python finds them, and has them loaded by `_Loader`."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._beginnings = tuple(f"{package}." for package in packages)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(self._beginnings) or name.rpartition(".")[2].startswith("test_"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        _wrap_all(module, module.__name__)


def _wrap_all(owner: types.ModuleType | type, module: str) -> None:
    """Replace the functions that `owner` defines, and those of its classes, by checked ones."""
    for name, value in list(vars(owner).items()):
        if getattr(value, "__module__", None) != module:
            continue  # imported from elsewhere
        if isinstance(value, type):
            _wrap_all(value, module)
        elif isinstance(value, (staticmethod, classmethod)):
            setattr(owner, name, type(value)(_checked(value.__func__)))
        elif inspect.isfunction(value):
            setattr(owner, name, _checked(value))


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & inspect.CO_GENERATOR or not any(map(_NAME.fullmatch, code.co_varnames)):
        return function
    check, compiling, get, put = _check, torch.compiler.is_compiling, sys.getprofile, sys.setprofile
    where = f"{function.__module__}.{function.__qualname__}"

    def checked(*args: Any, **kwargs: Any) -> Any:
        if compiling():
            return function(*args, **kwargs)
        left: dict[str, Any] = {}

        def look(frame: types.FrameType, event: str, argument: Any) -> None:
            if frame.f_code is code:
                if event == "call":
                    check(frame.f_locals, where)
                elif event == "return":
                    left.update(frame.f_locals)

        outer = get()
        put(look)
        try:
            result = function(*args, **kwargs)
        finally:
            put(outer)
        check(left, where)
        return result

    # With the module's own globals, by which doctest tells that a function belongs to a module.
    wrapped = types.FunctionType(checked.__code__, function.__globals__, None, None, checked.__closure__)
    return functools.update_wrapper(wrapped, function)


def _check(values: Mapping[str, Any], where: str) -> None:
    """Hold every name in `values` against its value.

    Raises:
        ShapeError: with all the shapes of the call.
    """
    with jaxtyped("context"):
        for name, value in values.items():
            if isinstance(value, int) and _SIZE.fullmatch(name):
                fits = isinstance(np.empty((value, 0)), Shaped[np.ndarray, f"{name} 0"])  # type: ignore[arg-type]
            elif isinstance(value, (torch.Tensor, np.ndarray)) and (found := _NAME.fullmatch(name)):
                axes = " ".join(found[1]) if len(found[1]) > 1 else f"... {found[1]}"
                fits = isinstance(value, Shaped[type(value), axes])  # type: ignore[arg-type]
            else:
                continue
            if not fits:
                raise ShapeError(f"{name} is not what its name says, in {where}:\n{_shapes(values)}")


def _shapes(values: Mapping[str, Any]) -> str:
    lines = []
    for name, value in values.items():
        if isinstance(value, (torch.Tensor, np.ndarray)) and _NAME.fullmatch(name):
            lines.append(f"  {name} {list(value.shape)}")
        elif isinstance(value, int) and _SIZE.fullmatch(name):
            lines.append(f"  {name} = {value}")
    return "\n".join(lines)
