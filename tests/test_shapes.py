"""The check of names by which every other test runs: it finds what is wrong, and it is on."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from sw2.domains.language.decoder import Decoder
from sw2.domains.vision.resnet import ResNet
from sw2.parts.decoding.cache import KVCache
from sw2.parts.layers import attention
from sw2.testing.shapes import ShapeError, check_names_in

SOURCE = '''
"""Names that tell the truth about some arguments and not about others."""
import functools
import numpy as np
import torch
from torch import nn

def add(x_BT, y_BT):
    """Their sum.

    >>> add(np.ones((1, 2)), np.ones((1, 2)))
    array([[2., 2.]])
    """
    return x_BT + y_BT

def transpose(x_BT):
    turned_BT = x_BT.T  # a lie unless it is square
    return turned_BT

def scale(x_BT, B):
    return x_BT * B

def last_axis(x_D, weight_D):
    return x_D * weight_D

def square(x_NN):
    return x_NN

def rename(x_BT):
    x_BT = x_BT[:, :1]  # a shorter T is another T
    return x_BT, len(x_BT)

def pieces(x_BT):
    for piece_BT in x_BT.split(1):
        yield piece_BT

def fails(x_BT):
    wrong_BT = x_BT.T
    raise ValueError("the user's own mistake")

class Net(nn.Module):
    def forward(self, x_BT, inner=None):
        y_BT = inner(x_BT) if inner else x_BT
        return y_BT

    @staticmethod
    def of(x_BT):
        return x_BT

    @classmethod
    def made(cls, x_BT):
        return x_BT

    class Inner:
        def act(self, x_BT):
            return x_BT
'''


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module above, imported under the check."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "lying").mkdir()
    (folder / "lying" / "__init__.py").write_text("")
    (folder / "lying" / "names.py").write_text(SOURCE)
    finders = list(sys.meta_path)
    sys.path.insert(0, str(folder))
    check_names_in("lying")
    yield importlib.import_module("lying.names")
    sys.path.remove(str(folder))
    sys.meta_path[:] = finders
    for name in ("lying", "lying.names"):
        del sys.modules[name]


def test_true_names_pass(named: ModuleType) -> None:
    x = torch.ones(2, 3)
    assert named.add(x, y_BT=x).sum() == 12
    assert named.transpose(torch.ones(3, 3)).shape == (3, 3)
    assert named.scale(x, 2).sum() == 12
    assert named.last_axis(torch.ones(4, 5, 3), torch.ones(3)).shape == (4, 5, 3)
    assert named.rename(torch.ones(2, 1))[1] == 2
    assert named.Net()(x, inner=named.Net()).shape == (2, 3)
    assert named.add([1], [2]) == [1, 2]  # no tensors
    assert [piece.shape for piece in named.pieces(x)] == [(1, 3), (1, 3)]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.add(torch.ones(2, 3), torch.ones(1, 3)), "y_BT is not what its name says, in lying.names.add"),
        (lambda m: m.add(torch.ones(3), torch.ones(3)), r"x_BT \[3\]"),
        (lambda m: m.transpose(torch.ones(2, 3)), r"turned_BT \[3, 2\]"),
        (lambda m: m.scale(torch.ones(2, 3), 5), "B = 5"),
        (lambda m: m.last_axis(torch.ones(2, 3), torch.ones(1)), "weight_D"),
        (lambda m: m.square(torch.ones(2, 3)), "x_NN"),
        (lambda m: m.Net()(torch.ones(2)), "lying.names.Net.forward"),
        (lambda m: m.Net()(torch.ones(2, 3), inner=lambda x: x[0]), "y_BT"),
        (lambda m: m.Net.of(torch.ones(2)), "Net.of"),
        (lambda m: m.Net.made(torch.ones(2)), "Net.made"),
        (lambda m: m.Net.Inner().act(torch.ones(2).numpy()), "Inner.act"),
    ],
)
def test_a_lie_is_found(named: ModuleType, call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(ShapeError, match=says):
        call(named)
    assert sys.getprofile() is None


def test_an_error_stays_what_it_is(named: ModuleType) -> None:
    with pytest.raises(ValueError, match="the user's own mistake"):
        named.fails(torch.ones(2, 3))
    assert sys.getprofile() is None


def test_a_checked_function_is_still_itself(named: ModuleType) -> None:
    assert named.add.__name__ == "add"
    assert list(inspect.signature(named.add).parameters) == ["x_BT", "y_BT"]
    assert named.add.__globals__ is vars(named)  # or doctest would pass over its examples


def test_a_compiler_sees_through_the_check(named: ModuleType) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(named.add, backend=backend, fullgraph=True)
    assert compiled(torch.ones(2, 3), torch.ones(2, 3)).sum() == 12
    assert len(graphs) == 1


def test_packages_that_are_imported_already_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"too late: .*sw2\.parts\.layers\.attention"):
        check_names_in("sw2.parts")


@pytest.mark.parametrize(
    "function",
    [attention.attend, attention.document_mask, Decoder.decode, Decoder._mixed, KVCache.rows, ResNet.forward],
    ids=lambda function: function.__qualname__,
)
def test_the_check_is_on(function: object) -> None:
    """conftest.py has put it on before any test imported what it checks."""
    original = inspect.unwrap(function)  # type: ignore[arg-type]
    named = [name for name in original.__code__.co_varnames if name.rpartition("_")[2].isupper()]
    assert (function is not original) == bool(named)


def test_a_wrong_shape_is_caught_in_sw2() -> None:
    """Without the check torch takes these by broadcasting, and answers something."""
    documents = torch.zeros(2, 3, 4)
    with pytest.raises(ShapeError, match="documents_BT"):
        attention.document_mask(documents)
    queries, keys = torch.ones(1, 4, 5, 8), torch.ones(1, 2, 5, 8)
    with pytest.raises(ShapeError, match=r"v_BKSE \[1, 1, 5, 8\]"):
        attention.attend(queries, keys, torch.ones(1, 1, 5, 8), None)
