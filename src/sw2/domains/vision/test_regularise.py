"""Regularisers: expected values stay, labels mix as pictures do, draws are the generator's alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sw2.base.errors import UsageError
from sw2.base.seed import numpy_generator
from sw2.domains.vision.objective import total_loss
from sw2.domains.vision.regularise import MixConfig, StochasticDepth, depth_rates, mix
from sw2.domains.vision.resnet import ResNet
from sw2.domains.vision.vit import ViT


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_expected_value_is_that_of_the_whole_network(rate: float) -> None:
    before, after = torch.full((40_000, 2), 1.0), torch.full((40_000, 2), 3.0)
    got = StochasticDepth(rate)(before, after)
    assert torch.equal(got[:, 0], got[:, 1]), "an example goes around as a whole"
    around = got[:, 0] == 1.0
    torch.testing.assert_close(got[~around], torch.full_like(got[~around], 1 + 2 / (1 - rate)))
    assert float(around.float().mean()) == pytest.approx(rate, abs=0.015)
    # Five standard errors of a mean of values that are 0 or 2 / (1 - rate).
    error = 2 * (rate / (1 - rate) / 40_000) ** 0.5
    assert float(got[:, 0].mean()) == pytest.approx(3.0, abs=5 * error)


def test_nothing_is_left_out_afterwards_or_at_rate_zero() -> None:
    before, after = torch.randn(5, 3, 2), torch.randn(5, 3, 2)
    assert StochasticDepth(0.9).eval()(before, after) is after
    assert StochasticDepth(0.0)(before, after) is after


def test_rates_grow_from_zero() -> None:
    assert depth_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert depth_rates(0.3, 1) == [0.0]


@pytest.mark.parametrize(
    "model",
    [
        ResNet(
            ResNet.Config(stem=8, stem_halves=0, widths=(8, 8), blocks=(2, 2), stochastic_depth=0.8, shortcut="pad")
        ),
        ViT(ViT.Config(size=8, patch=4, width=16, depth=4, heads=2, hidden=16, stochastic_depth=0.8)),
    ],
    ids=["resnet", "vit"],
)
def test_networks_leave_blocks_out_in_training_only(model: ResNet | ViT) -> None:
    image = {"image": torch.randn(8, 1, 8, 8)}
    first, second = model.train()(image)["logits"], model(image)["logits"]
    assert not torch.equal(first, second)
    assert torch.equal(model.eval()(image)["logits"], model(image)["logits"])


def test_a_seed_gives_the_same_blocks_again() -> None:
    """The trainer seeds torch's generator at every step, so that a run that resumes leaves out the same."""
    model = ViT(ViT.Config(size=8, patch=4, width=16, depth=4, heads=2, hidden=16, stochastic_depth=0.8, dropout=0.5))
    image = {"image": torch.randn(8, 1, 8, 8)}
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(model.train()(image)["logits"])
    assert torch.equal(*found)


@given(
    number=st.integers(1, 6),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    config=st.sampled_from([MixConfig(mixup=0.2), MixConfig(cutmix=1.0), MixConfig(mixup=1.0, cutmix=0.3)]),
)
def test_labels_mix_as_pictures_do(number: int, height: int, width: int, seed: int, config: MixConfig) -> None:
    """Pictures of one value each: the mean of a mixture is the mean of the values that its labels stand for."""
    values = torch.linspace(-2, 5, number)
    labels = torch.randperm(number)
    worth = torch.zeros(number).scatter(0, labels, values)
    x = values[:, None, None, None].expand(number, 2, height, width)
    mixed, target = mix(x, labels, number, config, numpy_generator(seed))
    assert mixed.shape == x.shape
    assert target.shape == (number, number)
    assert (target >= 0).all()
    torch.testing.assert_close(target.sum(1), torch.ones(number))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), target @ worth, rtol=1e-4, atol=1e-5)


def test_cutmix_pastes_one_rectangle_and_mixup_none() -> None:
    x = torch.arange(32.0)[:, None, None, None].expand(32, 1, 10, 14)
    mixed, target = mix(x, torch.arange(32), 32, MixConfig(cutmix=1.0), numpy_generator(0))
    pasted = 0
    for number, (picture, row) in enumerate(zip(mixed[:, 0], target, strict=True)):
        foreign = picture != number
        pasted += bool(foreign.any())
        assert torch.equal(foreign, foreign.any(1)[:, None] & foreign.any(0)[None, :]), "a rectangle"
        assert len(picture[foreign].unique()) <= 1, "of one other picture"
        assert float(1 - row[number]) == pytest.approx(float(foreign.float().mean()), abs=1e-6)
    assert pasted > 16
    assert len(target.amax(1).unique()) > 16, "every picture has a share of its own"
    mixed, _ = mix(x, torch.arange(32), 32, MixConfig(mixup=1.0), numpy_generator(0))
    assert (mixed == mixed[:, :, :1, :1]).all()


def test_both_mixtures_take_turns() -> None:
    x = torch.rand(4, 1, 8, 8)
    config = MixConfig(mixup=1.0, cutmix=1.0)
    kept = [
        bool(torch.isin(mix(x, torch.arange(4), 4, config, numpy_generator(seed))[0], x).all()) for seed in range(60)
    ]
    assert 15 < sum(kept) < 45


def test_a_generator_of_one_seed_gives_one_mixture() -> None:
    x, labels = torch.rand(6, 1, 8, 8), torch.arange(6)
    one, again, other = (mix(x, labels, 6, MixConfig(cutmix=1.0), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


def test_negative_powers_are_refused() -> None:
    with pytest.raises(UsageError, match="mixup is out of range"):
        MixConfig(mixup=-0.1)


def test_the_loss_of_a_mixture_is_the_mixture_of_losses() -> None:
    logits = torch.randn(5, 4)
    one, other, share = torch.randint(4, (5,)), torch.randint(4, (5,)), torch.rand(5)
    target = share[:, None] * F.one_hot(one, 4) + (1 - share[:, None]) * F.one_hot(other, 4)
    got = total_loss({"logits": logits}, {"label": one, "target": target}, 0.1)

    def each(labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)

    torch.testing.assert_close(got, (share * each(one) + (1 - share) * each(other)).sum())


def test_label_smoothing_spreads_its_share_over_all_labels() -> None:
    logits, label = torch.randn(3, 4), torch.tensor([0, 2, 3])
    smooth = 0.9 * F.one_hot(label, 4) + 0.1 / 4
    wanted = -(smooth * logits.log_softmax(1)).sum()
    torch.testing.assert_close(total_loss({"logits": logits}, {"label": label}, 0.1), wanted)


def test_auxiliary_heads_count_three_tenths() -> None:
    logits, label = torch.randn(3, 4), torch.tensor([0, 2, 3])
    alone = total_loss({"logits": logits}, {"label": label}, 0.0)
    heads = torch.stack((logits, logits), 1)
    torch.testing.assert_close(total_loss({"logits": logits, "auxiliary": heads}, {"label": label}, 0.0), 1.6 * alone)
