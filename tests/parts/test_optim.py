"""Optimisers: what each rule promises, parity with torch, and resuming bit for bit."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sw2.base.config import from_dict, to_dict
from sw2.base.errors import RunError, UsageError
from sw2.parts.optim import (
    Average,
    Muon,
    OptimConfig,
    ScheduleConfig,
    build_optim,
    divide,
    multiplier,
    orthogonalize,
)
from sw2.parts.optim.schedule import constant, cosine, stable

CONSTANT = ScheduleConfig(shape="constant", warmup=0.0)


class Small(nn.Module):
    """A network with one of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.blocks = nn.ModuleList([nn.Conv1d(8, 8, 3, padding=1), nn.Conv1d(8, 8, 3, padding=1, groups=8)])
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        # The norm stands first: after a convolution it would leave its bias a gradient of zero, and Adam would step
        # along the rounding error.
        x_BDT = self.norm(self.embedding(tokens_BT).mT)
        for block in self.blocks:
            x_BDT = x_BDT + block(x_BDT)
        return self.head(x_BDT.relu().mean(dim=2))


def _small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def _backward(net: Small, step: int) -> None:
    random = torch.Generator().manual_seed(step)
    tokens_BT = torch.randint(7, (4, 5), generator=random)
    classes_B = torch.randint(3, (4,), generator=random)
    net.zero_grad()
    nn.functional.cross_entropy(net(tokens_BT), classes_B).backward()


def _copy(target: Tensor, whole: Tensor) -> None:
    target.copy_(whole)


# ---------------------------------------------------------------------------------------------------- orthogonalize


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 64), (2, 64, 16), (1, 1, 9)])
def test_orthogonalize_brings_singular_values_near_one_and_keeps_directions(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape)
    result = orthogonalize(matrices)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    # Values that begin above 1 % of the norm; smaller ones are only promised to grow.
    grown = values / values.norm(dim=1, keepdim=True) > 0.01
    new = torch.linalg.svdvals(result)
    assert new.max() < 1.25
    aligned = (left.mT @ result @ right.mT).diagonal(dim1=-2, dim2=-1)
    assert aligned[grown].min() > 0.5
    off = left.mT @ result @ right.mT - torch.diag_embed(aligned)
    assert off.abs().max() < 1e-3


def test_orthogonalize_is_the_plain_iteration_in_double_precision() -> None:
    """The Gram form against the textbook form, on a matrix whose singular values span four decades."""
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(96, 96, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(200, 96, dtype=torch.float64))
    matrix = left @ torch.diag(torch.logspace(-4, 0, 96, dtype=torch.float64)) @ right.T
    expected = matrix / matrix.norm()
    for _ in range(5):
        gram = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    torch.testing.assert_close(orthogonalize(matrix[None])[0].double(), expected, atol=2e-4, rtol=0)


def test_orthogonalize_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 4, 6)), torch.zeros(2, 4, 6))


def test_orthogonalize_does_not_depend_on_scale_or_company() -> None:
    matrices = torch.randn(3, 8, 12)
    torch.testing.assert_close(orthogonalize(1000 * matrices), orthogonalize(matrices))
    torch.testing.assert_close(orthogonalize(matrices)[1:2], orthogonalize(matrices[1:2]))


# ------------------------------------------------------------------------------------------------------------- Muon


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
def test_whole_matrices_move_as_torch_moves_them() -> None:
    """Parity with torch's Muon, within what its bf16 products lose."""
    shapes = [(16, 16), (16, 40), (40, 16), (16, 16)]
    ours, theirs = ([nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in range(2))
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine)
    start = [parameter.detach().clone() for parameter in ours]
    one = Muon(ours, lr=0.01, weight_decay=0.1, momentum=0.9, block_rows=0)
    other = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        for index, (mine, their) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(mine.shape, generator=torch.Generator().manual_seed(100 * step + index))
            mine.grad, their.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    for begin, mine, their in zip(start, ours, theirs, strict=True):
        assert (mine - their).norm() < 0.02 * (mine - begin).norm()


def test_a_block_is_a_matrix_of_its_own() -> None:
    whole = nn.Parameter(torch.randn(12, 20))
    blocks = [nn.Parameter(part.clone()) for part in whole.detach().split(4)]
    whole.grad = torch.randn(12, 20)
    for block, gradient in zip(blocks, whole.grad.split(4), strict=True):
        block.grad = gradient.clone()
    Muon([whole], lr=0.1, block_rows=4).step()
    Muon(blocks, lr=0.1, block_rows=0).step()
    torch.testing.assert_close(whole.detach(), torch.cat([block.detach() for block in blocks]))


def test_rows_that_do_not_divide_are_taken_whole() -> None:
    one, other = (nn.Parameter(torch.ones(10, 6)) for _ in range(2))
    one.grad = other.grad = torch.randn(10, 6)
    Muon([one], block_rows=4).step()
    Muon([other], block_rows=0).step()
    assert torch.equal(one, other)


def test_the_update_has_the_size_of_adamws() -> None:
    """Moonlight's factor: a root mean square of about 0.2 times the learning rate, whatever the shape."""
    for shape in [(64, 64), (64, 256), (256, 64), (32, 16, 3, 3)]:
        parameter = nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.randn(shape)
        Muon([parameter], lr=1.0, weight_decay=0.0, block_rows=16).step()
        assert 0.15 < parameter.square().mean().sqrt() < 0.23


@pytest.mark.parametrize("method", ["adamw", "muon", "sgd"])
def test_a_quadratic_converges(method: str) -> None:
    target = torch.randn(16, 24, generator=torch.Generator().manual_seed(1))
    parameter = nn.Parameter(torch.zeros(16, 24))
    config = OptimConfig(
        method=method,  # type: ignore[arg-type]
        learning_rate=0.05,
        weight_decay=0.0,
        momentum=0.9,
        schedule=ScheduleConfig(decay=0.7),
    )
    optim = build_optim(config, [("blocks.weight", parameter)])
    for step in range(400):
        parameter.grad = parameter.detach() - target
        optim.step(step, 400)
    assert (parameter - target).norm() < 0.02 * target.norm()


# --------------------------------------------------------------------------------------------------------- schedule


@given(
    shape=st.sampled_from(["stable", "cosine", "constant"]),
    warmup=st.floats(0, 0.5),
    decay=st.floats(0, 0.5),
    floor=st.floats(0, 1),
    steps=st.integers(1, 500),
)
def test_schedules_rise_then_fall_between_floor_and_one(
    shape: Any, warmup: float, decay: float, floor: float, steps: int
) -> None:
    config = ScheduleConfig(shape=shape, warmup=warmup, decay=decay, floor=floor)
    rising = round(warmup * steps)
    factors = [multiplier(config, step, steps) for step in range(steps + 1)]
    assert all(0 < factor <= 1 for factor in factors[:steps])
    assert factors[:rising] == [(step + 1) / rising for step in range(rising)]
    after = factors[rising:]
    assert after[0] == 1.0 or rising == steps or (shape == "stable" and rising + round(decay * steps) >= steps)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(after))
    if shape == "cosine" and rising < steps:
        assert factors[-1] == pytest.approx(floor)
    if shape == "stable" and round(decay * steps) and rising < steps:
        assert factors[-1] == pytest.approx(floor)
    if shape == "constant":
        assert set(after) == {1.0}


def test_schedules_at_known_points() -> None:
    assert [constant(step, warmup=4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine(60, steps=100, warmup=20, floor=0.2) == pytest.approx(0.6)
    assert stable(79, steps=100, warmup=10, decay=20) == 1.0
    assert stable(85, steps=100, warmup=10, decay=20, floor=0.1) == pytest.approx(0.1 + 0.9 * 0.5)
    assert stable(1000, steps=100, warmup=10, decay=20, floor=0.1) == pytest.approx(0.1)


def test_a_schedule_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="Warm-up and decay take more steps than there are"):
        ScheduleConfig(warmup=0.8, decay=0.5)
    with pytest.raises(UsageError, match="floor is a share"):
        ScheduleConfig(floor=1.5)


# ----------------------------------------------------------------------------------------------------------- groups


def test_groups_name_every_parameter_once_and_by_kind() -> None:
    named = list(_small().named_parameters())
    groups = divide(named, hidden=("blocks",))
    by_name = {name: group for group in groups for name, _ in group.members}
    assert len(by_name) == sum(len(group.members) for group in groups) == len(named)
    assert [name for name, group in by_name.items() if group.rule == "matrix"] == ["blocks.0.weight"]
    assert not any(group.decayed for name, group in by_name.items() if name.endswith("bias") or "norm" in name)
    assert all(by_name[name].decayed for name in ("embedding.weight", "blocks.1.weight", "head.weight"))


def test_layers_near_the_input_learn_more_slowly() -> None:
    net = _small()
    stages = [
        [n for n, _ in net.named_parameters() if n.startswith(stage)] for stage in ("embedding", "blocks", "head")
    ]
    groups = divide(list(net.named_parameters()), stages=stages, layer_decay=0.5)
    scales = {name: group.scale for group in groups for name, _ in group.members}
    assert scales["embedding.weight"] == 0.25
    assert scales["blocks.0.weight"] == scales["blocks.0.bias"] == 0.5
    assert scales["head.weight"] == scales["norm.weight"] == 1.0


def test_settings_that_would_have_no_effect_are_refused() -> None:
    named = list(_small().named_parameters())
    with pytest.raises(UsageError, match="needs the stages"):
        divide(named, layer_decay=0.9)
    with pytest.raises(UsageError, match="no hidden matrix"):
        divide(named, hidden=("layers",))
    with pytest.raises(UsageError, match="does not have"):
        divide(named, stages=[["nowhere"]])
    with pytest.raises(UsageError, match="nothing to learn"):
        build_optim(OptimConfig(), [])


# ------------------------------------------------------------------------------------------------------------ build


def test_adamw_is_the_formula_with_decay_on_matrices_only() -> None:
    """Loshchilov & Hutter, algorithm 2, written out per parameter."""
    net = _small()
    rate, decay, (beta1, beta2) = 0.01, 0.1, (0.9, 0.95)
    optim = build_optim(OptimConfig(learning_rate=rate, schedule=CONSTANT), list(net.named_parameters()))
    expected = {name: parameter.detach().double() for name, parameter in net.named_parameters()}
    first, second = ({name: torch.zeros_like(tensor) for name, tensor in expected.items()} for _ in range(2))
    for step in range(10):
        for name, parameter in net.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            gradient = parameter.grad.double()
            first[name] = beta1 * first[name] + (1 - beta1) * gradient
            second[name] = beta2 * second[name] + (1 - beta2) * gradient**2
            mean, square = first[name] / (1 - beta1 ** (step + 1)), second[name] / (1 - beta2 ** (step + 1))
            if parameter.ndim >= 2:
                expected[name] = (1 - rate * decay) * expected[name]
            expected[name] = expected[name] - rate * mean / (square.sqrt() + 1e-8)
        optim.step(step, 10)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("method", ["adamw", "muon", "sgd"])
def test_resuming_continues_bit_for_bit(method: Any) -> None:
    config = OptimConfig(method=method, learning_rate=0.01)
    straight = _small()
    optim = build_optim(config, list(straight.named_parameters()))
    saved: dict[str, Any] = {}
    for step in range(20):
        if step == 7:
            saved = copy.deepcopy({"net": straight.state_dict(), "optim": optim.tensors()})
        _backward(straight, step)
        optim.step(step, 20)
    resumed = _small(seed=1)
    fresh = build_optim(config, list(resumed.named_parameters()))
    _backward(resumed, 0)
    fresh.step(0, 20)  # whatever was there before must not matter
    resumed.load_state_dict(saved["net"])
    fresh.restore(saved["optim"], _copy)
    for step in range(7, 20):
        _backward(resumed, step)
        fresh.step(step, 20)
    for (name, one), other in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert fresh.tensors().keys() == optim.tensors().keys()


def test_a_checkpoint_of_another_network_is_refused() -> None:
    net = _small()
    optim = build_optim(OptimConfig(), list(net.named_parameters()))
    with pytest.raises(RunError, match="belongs to another network"):
        optim.restore({"elsewhere.weight/exp_avg": torch.zeros(2)}, _copy)
    with pytest.raises(RunError, match="does not fit"):
        optim.restore({"head.weight/exp_avg": torch.zeros(2)}, _copy)


def test_parameters_without_gradient_stay() -> None:
    net = _small()
    optim = build_optim(OptimConfig(method="muon", learning_rate=0.01), list(net.named_parameters()))
    before = copy.deepcopy(net.state_dict())
    _backward(net, 0)
    net.blocks[0].weight.grad = net.embedding.weight.grad = None
    optim.step(5, 10)
    changed = {name for name, parameter in net.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name, _ in net.named_parameters()} - {"blocks.0.weight", "embedding.weight"}


def test_the_schedule_and_layer_scale_reach_torch() -> None:
    net = _small()
    stages = [["embedding.weight"], ["head.weight", "head.bias"]]
    config = OptimConfig(learning_rate=0.1, layer_decay=0.5, schedule=ScheduleConfig(warmup=0.4))
    optim = build_optim(config, list(net.named_parameters()), stages)
    _backward(net, 0)
    optim.step(1, 10)
    rates = {name: g["lr"] for o in optim.optimizers for g in o.param_groups for name in g["param_names"]}
    assert rates["embedding.weight"] == pytest.approx(0.1 * 0.5 * 0.5)
    assert rates["head.weight"] == pytest.approx(0.1 * 0.5)


def test_config_travels_and_is_checked() -> None:
    config = OptimConfig(method="muon", betas=(0.8, 0.9), schedule=ScheduleConfig(shape="cosine", floor=0.1))
    assert from_dict(OptimConfig, to_dict(config)) == config
    for wrong in ({"learning_rate": 0.0}, {"betas": (1.0, 0.9)}, {"momentum": 1.0}, {"layer_decay": 0.0}):
        with pytest.raises(UsageError, match=f"optim.{next(iter(wrong))} is out of range"):
            OptimConfig(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- average


def test_the_average_follows_its_formula() -> None:
    net = _small()
    average = Average(net, 0.9)
    expected = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for step in range(120):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        net.norm.running_mean.add_(1.0)
        net.norm.num_batches_tracked.add_(1)
        average.update(net, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
    kept = average.tensors()
    assert kept["norm.num_batches_tracked"] == 120
    for name in expected.keys() - {"norm.num_batches_tracked"}:
        torch.testing.assert_close(kept[name], expected[name])


def test_the_average_is_torchs_once_warmed_up() -> None:
    net = _small()
    ours = Average(net, 0.8)
    theirs = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8))
    theirs.update_parameters(net)  # the first call copies
    for step in range(100, 110):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(net, step)
        theirs.update_parameters(net)
    for name, parameter in theirs.module.named_parameters():
        torch.testing.assert_close(ours.tensors()[name], parameter.detach())


def test_swapping_the_average_in_and_out_changes_nothing() -> None:
    net = _small()
    average = Average(net, 0.5)
    with torch.no_grad():
        net.head.weight.add_(1.0)
    average.update(net, 100)
    weights, kept = copy.deepcopy(net.state_dict()), {n: t.clone() for n, t in average.tensors().items()}

    def look() -> None:
        with average.swapped_into(net):
            assert all(torch.equal(tensor, kept[name]) for name, tensor in net.state_dict().items())
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in average.tensors().items())


def test_tied_weights_are_averaged_once_and_tables_are_not() -> None:
    net = nn.Module()
    net.one, net.two = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    net.two.weight = net.one.weight
    net.register_buffer("table", torch.ones(3), persistent=False)
    assert list(Average(net, 0.9).tensors()) == ["one.weight"]


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="decay of the average"):
        Average(_small(), 1.0)


# ------------------------------------------------------------------------------------------------- several processes


def _train_sharded(rank: int, folder: str, method: Any) -> None:
    """Two processes with FSDP2, the same batch in both; rank 0 writes what came out."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        net = _small()
        fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
        optim = build_optim(OptimConfig(method=method, learning_rate=0.01), list(net.named_parameters()))
        average = Average(net, 0.9)
        for step in range(5):
            _backward(net, step)
            optim.step(step, 5)
            average.update(net, step)
        with average.swapped_into(net):
            averaged = net.head.weight.full_tensor().clone()
        whole = {name: parameter.full_tensor() for name, parameter in net.named_parameters()}
        if rank == 0:
            torch.save({"net": whole, "average": averaged}, Path(folder) / "result.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["adamw", "muon"])
def test_sharded_parameters_learn_as_whole_ones(method: Any, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_train_sharded, (str(tmp_path), method), nprocs=2)
    found = torch.load(tmp_path / "result.pt")
    net = _small()
    optim = build_optim(OptimConfig(method=method, learning_rate=0.01), list(net.named_parameters()))
    average = Average(net, 0.9)
    for step in range(5):
        _backward(net, step)
        optim.step(step, 5)
        average.update(net, step)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found["net"][name], parameter.detach(), msg=name)
    torch.testing.assert_close(found["average"], average.tensors()["head.weight"])
