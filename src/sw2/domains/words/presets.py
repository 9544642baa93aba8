"""Every setting of word vectors from the text and one dial.

A preset says how long vectors are; the text says which words get one; learning rates are those of the papers' own code.
"""

from __future__ import annotations

from typing import Any, Final

from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.domains.words.glove.objective import GloVeConfig
from sw2.domains.words.models import SubwordVectors, WordVectors
from sw2.domains.words.objective import ClosedConfig, LearnConfig
from sw2.domains.words.vocabulary import PrepConfig

__all__ = ["recipe"]

_DIMENSIONS: Final = {"tiny": 32, "small": 100, "full": 300}
_BUCKETS: Final = {"tiny": 20_000, "small": 200_000, "full": 2_000_000}
_RATES: Final = {"skip-gram": 0.025, "cbow": 0.05, "fasttext": 0.05}
_OBJECTIVES: Final = {"ppmi-svd": "closed-form", "glove": "weighted-least-squares"}
_COUNTED: Final = 20_000


def recipe(request: Request) -> Recipe:
    """The recipe: skip-gram unless `--model` says otherwise.

    Raises:
        UsageError: there is a program to start from.
    """
    if request.parent is not None:
        raise UsageError(
            "Word vectors begin from nothing: the words of another program are not those of this text.",
            where="--from",
            wanted="no program to start from",
            got=f"a program for {request.parent.task.name}",
        )
    model = request.model or "skip-gram"
    words = int(request.data.facts["words"])
    min_count = 5 if words >= 1_000_000 else 2 if words >= 20_000 else 1
    dimensions, closed = _DIMENSIONS[request.preset], model == "ppmi-svd"
    if closed:
        dimensions = max(2, min(dimensions, int(request.data.facts["distinct words"]) // 4))
    reasons = {
        "prep.min_count": f"{min_count}, as the text has {words:,} words; rarer ones have little to learn from",
        "model.dimensions": f"{dimensions}, by preset {request.preset}",
    }
    sizes: dict[str, Any] = {"dimensions": dimensions}
    if model == "fasttext":
        sizes["buckets"] = _BUCKETS[request.preset]
        reasons["model.buckets"] = f"{sizes['buckets']:,} vectors for n-grams, by preset {request.preset}"
    if closed:
        reasons["prep.most_words"] = f"the {_COUNTED:,} most frequent: all their pairs are counted in memory"
    return Recipe(
        model=model,
        model_config=SubwordVectors.Config(**sizes) if model == "fasttext" else WordVectors.Config(**sizes),
        prep_config=PrepConfig(min_count=min_count, most_words=_COUNTED if closed else 0),
        objective=_OBJECTIVES.get(model, "negative-sampling"),
        learn_config=ClosedConfig()
        if closed
        else GloVeConfig()
        if model == "glove"
        else LearnConfig(learning_rate=_RATES[model]),
        reasons=reasons,
    )
