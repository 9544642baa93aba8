"""Masked autoencoding: the loss and its gradient against a plain computation, masks, and what the encoder can see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.domains.vision.pretraining.masked import Decoder, MaskedConfig, draw_masks, masked_loss, squares, waves
from sw2.domains.vision.vit import ViT

SMALL = ViT.Config(size=8, classes=1, patch=2, width=16, depth=2, heads=2, hidden=24)


def by_hand(guessed_BTF: np.ndarray, image_BCSS: np.ndarray, hidden: list[list[int]], patch: int) -> float:
    """The loss in float64, square by square and pixel by pixel."""
    total = 0.0
    side = image_BCSS.shape[2] // patch
    for b, numbers in enumerate(hidden):
        errors = []
        for number in numbers:
            row, column = divmod(number, side)
            target = [
                float(image_BCSS[b, c, row * patch + y, column * patch + x])
                for y in range(patch)
                for x in range(patch)
                for c in range(image_BCSS.shape[1])
            ]
            mean = sum(target) / len(target)
            variance = sum((value - mean) ** 2 for value in target) / (len(target) - 1)
            for place, value in enumerate(target):
                wanted = (value - mean) / (variance + 1e-6) ** 0.5
                errors.append((float(guessed_BTF[b, number, place]) - wanted) ** 2)
        total += sum(errors) / len(errors)
    return total


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_and_its_gradient_are_those_computed_by_hand(channels: int) -> None:
    draw = np.random.default_rng(channels)
    image, guessed = draw.normal(size=(3, channels, 6, 6)), draw.normal(size=(3, 9, 4 * channels))
    hidden = [[0, 4, 8], [1, 2, 3], [5, 6, 7]]
    ours = torch.from_numpy(guessed).float().requires_grad_()
    loss = masked_loss(ours, torch.from_numpy(image), torch.tensor(hidden), 2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(by_hand(guessed, image, hidden, 2), rel=1e-5)
    assert ours.grad is not None
    for b, t, f in ((0, 4, 0), (1, 3, 2), (2, 5, 1), (0, 1, 0), (2, 0, 3)):
        step = np.zeros_like(guessed)
        step[b, t, f] = 1e-4
        slope = (by_hand(guessed + step, image, hidden, 2) - by_hand(guessed - step, image, hidden, 2)) / 2e-4
        assert ours.grad[b, t, f].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_a_square_of_one_grey_is_guessed_as_nothing() -> None:
    flat = torch.full((1, 1, 4, 4), 7.0)
    assert masked_loss(torch.zeros(1, 4, 4), flat, torch.tensor([[0, 1, 2]]), 2).item() == 0.0
    assert masked_loss(torch.zeros(1, 4, 4), flat, torch.tensor([[0]]), 2, normalise=False).item() == pytest.approx(49)


def test_squares_stand_row_by_row() -> None:
    image_BCSS = torch.arange(16.0).view(1, 1, 4, 4)
    assert squares(image_BCSS, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@given(
    number=st.integers(1, 5), tokens=st.integers(2, 70), hidden=st.floats(0.01, 0.99), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=60, deadline=None)
def test_a_mask_divides_the_squares(number: int, tokens: int, hidden: float, seed: int) -> None:
    kept, away = draw_masks(number, tokens, hidden, generator(seed, "masks"))
    assert away.shape[1] == min(max(round(tokens * hidden), 1), tokens - 1)
    for seen, unseen in zip(kept.tolist(), away.tolist(), strict=True):
        assert seen == sorted(seen)
        assert unseen == sorted(unseen)
        assert sorted(seen + unseen) == list(range(tokens))


def test_every_square_is_hidden_as_often() -> None:
    _, away = draw_masks(8000, 16, 0.75, generator(3, "masks"))
    share = torch.bincount(away.flatten(), minlength=16) / 8000
    assert (share - 0.75).abs().max() < 0.025  # five standard errors


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_the_encoder_does_not_see_what_is_hidden(pool: str) -> None:
    torch.manual_seed(0)
    net = ViT(ViT.Config(size=8, classes=1, patch=2, width=16, depth=2, heads=2, hidden=24, pool=pool)).eval()  # type: ignore[arg-type]
    image = torch.randn(5, 1, 8, 8)
    kept, hidden = draw_masks(5, 16, 0.75, generator(0, "masks"))
    seen = net({"image": image, "kept": kept})
    assert seen["tokens"].shape == (5, 4 + (pool == "class"), 16)
    changed = image.clone()
    for row, numbers in zip(changed, hidden.tolist(), strict=True):
        for number in numbers:
            y, x = divmod(number, 4)
            row[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = 99.0
    again = net({"image": changed, "kept": kept})
    torch.testing.assert_close(again["tokens"], seen["tokens"], rtol=0, atol=0)
    torch.testing.assert_close(again["features"], seen["features"], rtol=0, atol=0)
    everything = torch.arange(16).expand(5, 16)
    torch.testing.assert_close(net({"image": image, "kept": everything})["tokens"], net({"image": image})["tokens"])


def test_the_decoder_knows_where_what_it_sees_stood() -> None:
    """In whatever order it is given; and it says something else when it stood elsewhere."""
    torch.manual_seed(0)
    decoder = Decoder(Decoder.Config(inputs=16, side=4, pixels=4))
    tokens, kept = torch.randn(2, 3, 16), torch.tensor([[1, 5, 9], [0, 2, 15]])
    turned = torch.tensor([2, 0, 1])
    straight = decoder({"tokens": tokens, "kept": kept})["squares"]
    assert straight.shape == (2, 16, 4)
    torch.testing.assert_close(decoder({"tokens": tokens[:, turned], "kept": kept[:, turned]})["squares"], straight)
    assert not torch.allclose(decoder({"tokens": tokens, "kept": kept[:, turned]})["squares"], straight, atol=1e-3)


def test_waves_tell_every_place_from_every_other() -> None:
    table = waves(8, 50)
    assert table.shape == (64, 50)
    assert (table[:, 48:] == 0).all()
    near = table @ table.T
    assert (near.argmax(1) == torch.arange(64)).all()
    assert near[9, 10] > near[9, 12]
    assert near[9, 17] == pytest.approx(near[9, 10].item(), rel=1e-5)
    torch.testing.assert_close(table[8 * 3 + 2, [0, 12, 24, 36]], torch.tensor([3.0, 3.0, 2.0, 2.0]).sin().where(
        torch.tensor([True, False, True, False]), torch.tensor([3.0, 3.0, 2.0, 2.0]).cos()
    ))  # fmt: skip


def test_it_learns_a_batch_with_every_parameter() -> None:
    """But those of the last layer, which is for labels."""
    torch.manual_seed(1)
    encoder, decoder = ViT(SMALL), Decoder(Decoder.Config(inputs=16, side=4, pixels=4))
    image = torch.randn(4, 1, 2, 2).repeat(1, 1, 4, 4)  # every square the same: what is seen tells what is hidden
    kept, hidden = draw_masks(4, 16, 0.75, generator(1, "masks"))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=0.003)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        tokens = encoder({"image": image, "kept": kept})["tokens"]
        loss = masked_loss(decoder({"tokens": tokens, "kept": kept})["squares"], image, hidden, 2) / 4
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    named = [*encoder.named_parameters(), *decoder.named_parameters()]
    assert [name for name, p in named if p.grad is None or not p.grad.abs().sum() > 0] == ["head.weight", "head.bias"]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("setting", "told"),
    [({"hidden": 1.0}, "hidden"), ({"hidden": 0.0}, "hidden"), ({"decoder_width": 40}, "decoder_width"),
     ({"decoder_depth": 0}, "decoder_depth")],
)  # fmt: skip
def test_settings_that_cannot_be(setting: dict[str, float], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        MaskedConfig(**setting)  # type: ignore[arg-type]
