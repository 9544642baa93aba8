"""The dial of depth: what follows from it, and when it is refused."""

from __future__ import annotations

import math
from typing import cast

import pytest

from sw2.base.config import replace
from sw2.base.errors import UsageError
from sw2.core.data import Data
from sw2.core.domain import Recipe, Request
from sw2.core.program import Program
from sw2.domains.language.decoder import parameter_count
from sw2.domains.language.presets import recipe

DATA = Data(name="nothing", splits={}, fingerprint="")


def at(depth: int | None, preset: str = "small") -> Recipe:
    return recipe(Request(data=DATA, preset=preset, depth=depth))


def test_the_reference_depth_is_the_preset() -> None:
    found, preset = at(4), at(None)
    assert found.model_config == preset.model_config
    assert found.learn_config == preset.learn_config


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 7, 12, 24, 48])
def test_everything_follows_from_depth(depth: int) -> None:
    found, reference = at(depth), at(4)
    shape, gradient = found.model_config, found.learn_config.gradient
    assert found.depth == shape.depth == depth
    assert shape.attention.channels == 64
    assert shape.width - 64 < 32 * depth <= shape.width
    assert 8 / 3 * shape.width <= shape.hidden < 8 / 3 * shape.width + 32
    assert gradient.batch_size == depth
    optim, known = gradient.optim, reference.learn_config.gradient.optim
    # The spectral norm of an update over the square root of the rows, and the tokens that the weights remember.
    assert optim.learning_rate * math.sqrt(shape.width / depth) == pytest.approx(
        known.learning_rate * math.sqrt(128 / 4), rel=5e-3
    )
    assert optim.learning_rate * optim.weight_decay / depth == pytest.approx(
        known.learning_rate * known.weight_decay / 4, rel=1e-2
    )
    for key in ("learning_rate", "weight_decay"):
        assert f"{getattr(optim, key):g}" in found.reasons[f"learn.gradient.optim.{key}"]
    for key in ("width", "heads", "hidden", "depth"):
        assert str(getattr(shape, key)) in found.reasons[f"model.{key}"]


def test_size_grows_as_the_cube_of_depth() -> None:
    weights = [parameter_count(replace(at(depth).model_config, vocab_size=1, recall=0)) for depth in (8, 16, 32)]
    assert weights[1] / weights[0] == pytest.approx(8, rel=0.05)
    assert weights[2] / weights[1] == pytest.approx(8, rel=0.05)


def test_context_and_vocabulary_stay_with_the_preset() -> None:
    assert at(6, "tiny").model_config.context == at(None, "tiny").model_config.context
    assert at(6, "full").prep_config == at(None, "full").prep_config


def test_a_program_to_start_from_has_its_depth() -> None:
    parent = cast(Program, object())
    with pytest.raises(UsageError, match="--from or --depth, not both"):
        recipe(Request(data=DATA, preset="small", depth=3, parent=parent))
