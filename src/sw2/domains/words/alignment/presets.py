"""Every setting of an alignment from the data and one dial.

A preset says how many frequent words make dictionaries: the time of a step grows with their square. With a dictionary
the closed form is taken, without one self-learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sw2.core.domain import Recipe, Request
from sw2.domains.words.alignment.adversary import AdversaryConfig
from sw2.domains.words.alignment.data import Languages
from sw2.domains.words.alignment.model import BilingualMap
from sw2.domains.words.alignment.objective import ProcrustesConfig, SelfLearningConfig
from sw2.domains.words.alignment.task import PrepConfig

__all__ = ["recipe"]

_FREQUENT: Final = {"tiny": 2_000, "small": 8_000, "full": 20_000}
_CONFIGS: Final[Mapping[str, Callable[..., Any]]] = {
    "self-learning": SelfLearningConfig,
    "procrustes": ProcrustesConfig,
    "adversary": AdversaryConfig,
}


def recipe(request: Request) -> Recipe:
    """The recipe: `--objective` is taken as given; otherwise a dictionary decides."""
    languages = request.data.splits.get("train")
    taught = isinstance(languages, Languages) and bool(languages.dictionary)
    objective = request.objective or ("procrustes" if taught else "self-learning")
    frequent = _FREQUENT[request.preset]
    reasons = {"learn.frequent": f"{frequent:,}, by the preset"}
    if request.objective is None:
        reasons["objective"] = f"{objective}, for there is {'a' if taught else 'no'} dictionary"
    return Recipe(
        model=request.model or "bilingual-map",
        model_config=BilingualMap.Config(),
        prep_config=PrepConfig(),
        objective=objective,
        learn_config=_CONFIGS[objective](frequent=frequent),
        reasons=reasons,
    )
