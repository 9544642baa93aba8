"""Every setting from the data and one dial."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.domains.texts.bags import BagOfNgrams
from sw2.domains.texts.objective import LearnConfig
from sw2.domains.texts.prep import PrepConfig
from sw2.parts.formats.fasttext import tokens

__all__ = ["recipe"]

_DIMENSIONS = {"tiny": 16, "small": 32, "full": 100}
_SHORT = 30  # words; of fewer, parts of words tell more than their neighbours
_MANY = 100  # labels from which a tree is quicker than the sum over all


def recipe(request: Request) -> Recipe:
    """Every setting for `request`."""
    if request.parent is not None:
        raise UsageError("This learning starts from nothing.", wanted="no --from", got="a program to start from")
    train = request.data.split("train")
    words = float(np.median([len(tokens(example["text"])) for example in train]))
    labels = len({example["label"] for example in train})
    short, many = words < _SHORT, labels >= _MANY
    loss: Literal["softmax", "hierarchical softmax"] = "hierarchical softmax" if many else "softmax"
    return Recipe(
        model="bag-of-ngrams",
        model_config=BagOfNgrams.Config(dimensions=_DIMENSIONS[request.preset], loss=loss),
        prep_config=PrepConfig(min_n=2, max_n=4, word_ngrams=1) if short else PrepConfig(),
        objective="text-by-text",
        learn_config=LearnConfig(texts=min(500, len(train))),
        reasons={
            "prep.word_ngrams": f"texts of {words:.0f} words: n-grams of "
            + ("characters (prep.min_n, prep.max_n), not of words" if short else "words, not of characters"),
            "model.dimensions": f"the preset {request.preset}",
            "model.loss": f"{labels} labels",
            "learn.texts": f"{len(train)} texts to learn from",
        },
    )
