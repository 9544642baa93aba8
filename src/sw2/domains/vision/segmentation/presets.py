"""Settings for segmentation by clicks: from the preset and what to start from to every number, each with its reason.

tiny    seconds, for tests: squares of 64 pixels, a narrow decoder
small   20 minutes on two cores: squares of 128 pixels
full    hours: squares of 256 pixels
"""

from __future__ import annotations

from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.core.gradient import GradientConfig
from sw2.domains.vision.objective import known_network
from sw2.domains.vision.prep import PrepConfig
from sw2.domains.vision.segmentation.lesson import ClickConfig
from sw2.domains.vision.segmentation.network import Config
from sw2.domains.vision.weights import MEAN, STD
from sw2.parts.optim.build import OptimConfig
from sw2.parts.optim.schedule import ScheduleConfig

__all__ = ["recipe"]

_SIZES = {"tiny": (64, 32, 4), "small": (128, 64, 16), "full": (256, 128, 16)}  # S, D, batch
_KNOWN = "efficientnet-lite0"


def recipe(request: Request) -> Recipe:
    """Every setting for `request`.

    Raises:
        UsageError: it is to start from a program with another network.
    """
    size, width, batch = _SIZES[request.preset]
    model_config = Config(width=width)
    prep_config = PrepConfig(size=size, channels=3, fit="pad", mean=(MEAN,) * 3, deviation=(STD,) * 3)
    why = "2e-3, from scratch"
    rate, decay, frozen = 2e-3, 1.0, 0
    if (parent := request.parent) is not None:
        decay, frozen = 0.5, 3
        if "segmenter" in parent.nets:
            model_config, prep_config = parent.nets["segmenter"].module.config, parent.prep.config  # type: ignore[attr-defined]
            rate = 1e-3
            why = "1e-3 for the decoder, a half of it for the encoder: the program to start from knows the task"
        elif known_network(parent)[1].model == _KNOWN:
            why = "2e-3 for the decoder, a half of it for the encoder"
        else:
            raise UsageError(
                "The encoder cannot start from this network.",
                where="--from",
                wanted=f"{_KNOWN}, or a program for image-segmentation",
                got=known_network(parent)[1].model,
            )
    optim = OptimConfig(learning_rate=rate, weight_decay=0.05, layer_decay=decay, schedule=ScheduleConfig(warmup=0.05))
    return Recipe(
        model="click-segmenter",
        model_config=model_config,
        prep_config=prep_config,
        objective="clicks",
        learn_config=ClickConfig(
            gradient=GradientConfig(batch_size=batch, clip_norm=1.0, average_decay=0.99, precision="fp32", optim=optim),
            frozen=frozen,
        ),
        reasons={
            "prep.size": f"{size} pixels: {request.preset}",
            "learn.gradient.batch_size": f"{batch}, what a small machine learns from in about two seconds",
            "learn.gradient.optim.learning_rate": why,
        },
    )
