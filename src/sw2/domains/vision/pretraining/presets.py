"""Settings for learning from pictures without labels: those of a classifier, but for what labels decide.

The network, the size of pictures and how weights move are what `sw2.domains.vision.presets` gives a classifier of the
same pictures, so that one can start from the program.

    contrastive           any network but GoogLeNet; a small ResNet unless told otherwise
    masked-autoencoding   a ViT; what `--model vit` takes when no way is named
"""

from __future__ import annotations

from typing import Any

from sw2.base.config import replace
from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.domains.vision.objective import known_network
from sw2.domains.vision.presets import recipe as classifier_recipe
from sw2.domains.vision.pretraining.contrastive import ContrastiveConfig
from sw2.domains.vision.pretraining.masked import MaskedConfig
from sw2.domains.vision.pretraining.views import ViewConfig

__all__ = ["recipe"]

_MASKED = "masked-autoencoding"
_MOST_TOLD_APART = 256
_MOST_PIXELS = _MOST_TOLD_APART * 64 * 64  # of a batch, in each channel: larger pictures come fewer at a time
_FEWEST_TOLD_APART = 16


def recipe(request: Request) -> Recipe:
    """Every setting for `request`.

    Raises:
        UsageError: squares are to be hidden from a network that is no ViT, or the network cannot learn so.
    """
    model = request.model
    if request.parent is not None:
        model = known_network(request.parent)[1].model
    way = request.objective or (_MASKED if model == "vit" else "contrastive")
    model = model or ("vit" if way == _MASKED else "resnet")
    if way == _MASKED and model != "vit":
        raise UsageError(
            "Squares cannot be hidden from this network.",
            where="--objective masked-autoencoding",
            wanted="vit",
            got=model,
            do="Use --model vit, or --objective contrastive.",
        )
    if model == "googlenet":
        raise UsageError(
            "GoogLeNet learns by heads in its middle, which ask for labels.",
            wanted="resnet, lenet, vit, convnext or efficientnet-lite0",
            got=model,
        )
    base = classifier_recipe(replace(request, model=model, objective=None))
    learn: Any = base.learn_config
    reasons = {key: why for key, why in base.reasons.items() if key.startswith(("model", "prep"))}
    mirrored = base.reasons.get("learn.augment.mirror")
    if way == _MASKED:
        width = max(base.model_config.width // 64, 1) * 32
        learn = MaskedConfig(gradient=learn.gradient, augment=learn.augment, decoder_width=width)
        reasons["learn.hidden"] = "three quarters of the squares, as in the paper: fewer can be guessed from neighbours"
        if "learn.gradient.batch_size" in base.reasons:
            reasons["learn.gradient.batch_size"] = base.reasons["learn.gradient.batch_size"]
        mirror = "learn.augment.mirror"
    else:
        pictures = len(request.data.split("train"))
        held = max(_MOST_PIXELS // base.prep_config.size**2, _FEWEST_TOLD_APART)
        batch = max(min(_MOST_TOLD_APART, held, pictures // 2), 2)
        views = ViewConfig(augment=replace(learn.augment, shift=0))
        learn = ContrastiveConfig(gradient=replace(learn.gradient, batch_size=batch), views=views)
        reasons["learn.gradient.batch_size"] = f"{batch}: the others of a batch are what a picture is told from"
        mirror = "learn.views.augment.mirror"
    return replace(
        base,
        model_config=replace(base.model_config, classes=1),
        objective=way,
        learn_config=learn,
        reasons={**reasons, **({mirror: mirrored} if mirrored else {})},
    )
