"""CellNet: a cell by hand, and networks cut out of the one that shares their weights."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sw2.base.errors import UsageError
from sw2.domains.vision import DOMAIN
from sw2.domains.vision.cells import OPERATIONS, Cell, CellNet, Operation, SharedCellNet

SIZES: dict[str, Any] = {"classes": 3, "stem_halves": 0, "widths": (4, 6)}
CELLS = st.builds(
    Cell,
    first=st.sampled_from(OPERATIONS),
    second=st.sampled_from(OPERATIONS),
    third=st.sampled_from(OPERATIONS),
    second_from=st.sampled_from([0, 1]),
    third_from=st.sampled_from([0, 1, 2]),
)


def shared() -> SharedCellNet:
    torch.manual_seed(0)
    return SharedCellNet(CellNet.Config(**SIZES))


def cut_out(together: SharedCellNet, cell: Cell) -> CellNet:
    """The network of that cell alone, with the shared weights; what it counts by itself stays as it begins."""
    alone = CellNet(CellNet.Config(**SIZES, cell=cell))
    own, theirs = alone.state_dict(), together.state_dict()
    counted = {
        name for name in own if name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert own.keys() - counted <= theirs.keys()
    alone.load_state_dict({name: own[name] if name in counted else theirs[name] for name in own})
    return alone


@given(CELLS)
@settings(max_examples=40, deadline=None)
def test_a_network_cut_out_of_the_shared_one_answers_and_learns_as_it_does(cell: Cell) -> None:
    together = shared()
    alone, image = cut_out(together, cell), torch.randn(4, 1, 9, 9)
    together.choose(alone.config)
    ours, theirs = alone({"image": image}), together({"image": image})
    assert ours["logits"].equal(theirs["logits"])
    ours["logits"].square().sum().backward()  # type: ignore[no-untyped-call]
    theirs["logits"].square().sum().backward()  # type: ignore[no-untyped-call]
    mine, every = dict(alone.named_parameters()), dict(together.named_parameters())
    for name, parameter in every.items():
        if name in mine:
            wanted = mine[name].grad
            assert (wanted is None) == (parameter.grad is None)
            assert wanted is None or (parameter.grad is not None and parameter.grad.equal(wanted))
        else:
            assert parameter.grad is None, "what the chosen network does not have must not learn"


def test_a_shared_network_judges_by_the_batch_in_evaluation_too() -> None:
    together, image = shared(), torch.randn(5, 1, 9, 9)
    learning = together({"image": image})["logits"]
    assert together.eval()({"image": image})["logits"].equal(learning)
    assert not any("running" in name for name in together.state_dict())


@given(st.lists(CELLS, min_size=2, max_size=4, unique=True))
@settings(max_examples=8, deadline=None)
def test_what_was_chosen_before_leaves_no_trace(cells: list[Cell]) -> None:
    together, image = shared(), torch.randn(3, 1, 9, 9)
    configs = [CellNet.Config(**SIZES, cell=cell) for cell in cells]
    wanted = []
    for config in configs:
        fresh = shared()
        fresh.choose(config)
        wanted.append(fresh({"image": image})["logits"])
    for config, logits in [*zip(configs, wanted, strict=True), (configs[0], wanted[0])]:
        together.choose(config)
        assert together({"image": image})["logits"].equal(logits)
    assert together.blank().state_dict().keys() == together.state_dict().keys()


def test_a_cell_by_hand() -> None:
    """Max of what comes in; a separable convolution of that; a convolution of what comes in: the last two are loose."""
    cell = Cell(first="max3x3", second="separable5x5", third="conv3x3", second_from=1, third_from=0)
    net = CellNet(CellNet.Config(classes=3, stem_halves=0, widths=(4,), cell=cell))
    image = torch.randn(6, 1, 7, 7)
    weights = dict(net.named_parameters())

    def normal(x: Tensor) -> Tensor:
        return (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()

    def weight(name: str) -> Tensor:
        return weights[f"net.{name}.weight"]

    came = normal(F.conv2d(image, weight("stem.0"), padding=1))
    first = normal(F.max_pool2d(came, 3, 1, padding=1))
    each = F.conv2d(F.relu(first), weight("body.0.nodes.1.separable5x5.1"), padding=2, groups=4)
    second = normal(F.conv2d(each, weight("body.0.nodes.1.separable5x5.2")))
    third = normal(F.conv2d(F.relu(came), weight("body.0.nodes.2.conv3x3.1"), padding=1))
    features = F.relu(second + third).mean((2, 3))
    wanted = F.linear(features, weight("head"), weights["net.head.bias"])
    torch.testing.assert_close(net({"image": image})["logits"], wanted, rtol=1e-4, atol=1e-5)


def test_nodes_that_exchange_their_places_are_the_same_network() -> None:
    one = CellNet(CellNet.Config(**SIZES, cell=Cell(second="conv3x3", third="max3x3", second_from=1, third_from=1)))
    other = CellNet(CellNet.Config(**SIZES, cell=Cell(second="max3x3", third="conv3x3", second_from=1, third_from=1)))
    turned = {"nodes.1.": "nodes.2.", "nodes.2.": "nodes.1."}
    state = {}
    for name, tensor in one.state_dict().items():
        there = next((name.replace(old, new) for old, new in turned.items() if old in name), name)
        state[there] = tensor
    other.load_state_dict(state)
    image = {"image": torch.randn(2, 1, 9, 9)}
    torch.testing.assert_close(other.eval()(image)["logits"], one.eval()(image)["logits"])


def test_the_declared_space_is_every_cell_and_shares_its_weights() -> None:
    entry = DOMAIN.models["cells"]
    assert tuple(entry.space) == SharedCellNet.settings
    for key in ("first", "second", "third"):
        assert tuple(entry.space[f"model.cell.{key}"].split(", ")) == OPERATIONS == get_args(Operation)


@pytest.mark.parametrize("widths", [(), (0,), (4, -1)])
def test_impossible_shapes_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="shape of a CellNet"):
        CellNet.Config(widths=widths)
