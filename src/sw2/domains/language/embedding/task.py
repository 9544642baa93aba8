"""Feature extraction: a text in, a vector out; the nearer two meanings, the larger the dot product of their vectors.

Judged by search: each held-out text looks for its own passage among the passages of all. The metric is nDCG@10
(Järvelin & Kekäläinen 2002, https://doi.org/10.1145/582415.582418), which with one right passage is 1 / log2(1 + rank),
or 0 below the tenth; beside it the share found among the first five. Baselines on the same texts: words in common
(cosine of bags of words, each weighted by how few passages have it), and chance.

Nothing learns this task here: there are weights by name.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from sw2.core.capabilities import Embed
from sw2.core.data import Data, Split
from sw2.core.kinds import Kind
from sw2.core.program import Program
from sw2.core.task import CheckReport, Context, Score, Task
from sw2.domains.language.embedding.embedder import TextEmbedder
from sw2.domains.language.embedding.pairs import PairOptions, read
from sw2.parts.metrics.intervals import bootstrap

__all__ = ["FeatureExtraction"]

_DEPTH: Final = 10
_FOUND: Final = 5
_QUERIES_AT_ONCE: Final = 256


class FeatureExtraction(Task):
    """The task at the top of this file."""

    name = "feature-extraction"
    inputs = {"text": Kind("text")}
    outputs = {"vector": Kind("vector", "float32", ("width",))}
    metric = "nDCG@10"
    runtime = TextEmbedder.name
    Options = PairOptions

    def read(self, source: str, options: PairOptions, context: Context) -> Data:
        del context
        return read(source, options)

    def check(self, data: Data) -> CheckReport:
        passages = {split: len({row["positive"] for row in rows}) for split, rows in data.splits.items()}
        return CheckReport(
            facts={f"{split} texts, passages": f"{len(data.splits[split])}, {n}" for split, n in passages.items()}
        )

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        embedder = program.capability(Embed)  # type: ignore[type-abstract]
        passages, right = _passages(held_out)
        passages_PD = embedder.embed(passages)
        texts_ND = embedder.embed([row["text"] for row in held_out])
        ranks = np.concatenate(
            [
                _ranks(
                    texts_ND[start : start + _QUERIES_AT_ONCE] @ passages_PD.T, right[start : start + _QUERIES_AT_ONCE]
                )
                for start in range(0, len(texts_ND), _QUERIES_AT_ONCE)
            ]
        )
        return _scores(self.metric, ranks, "program", context.seed)

    def baselines(self, data: Data, prep: Any, context: Context) -> Sequence[Score]:
        del prep
        held_out = data.split("test")
        passages, right = _passages(held_out)
        ranks = _ranks(_words_in_common([row["text"] for row in held_out], passages), right)
        by_chance = sum(1 / math.log2(1 + rank) for rank in range(1, min(_DEPTH, len(passages)) + 1)) / len(passages)
        return [
            *_scores(self.metric, ranks, "words in common", context.seed),
            Score(name=self.metric, value=by_chance, better="higher", examples=len(held_out), of="chance"),
        ]


def _passages(held_out: Split) -> tuple[list[str], np.ndarray]:
    """The different passages, and which of them each text looks for, int64 [N]."""
    number = {passage: at for at, passage in enumerate(dict.fromkeys(row["positive"] for row in held_out))}
    return list(number), np.array([number[row["positive"]] for row in held_out])


def _ranks(scores_NP: np.ndarray, right_N: np.ndarray) -> np.ndarray:
    """The rank of the right passage of each text, from 1; of equals it comes last. int64 [N]."""
    own_N1 = np.take_along_axis(scores_NP, right_N[:, None], 1)
    ranks: np.ndarray = (scores_NP >= own_N1).sum(1)
    return ranks


def _scores(metric: str, ranks_N: np.ndarray, of: str, seed: int) -> list[Score]:
    gains_N = np.where(ranks_N <= _DEPTH, 1 / np.log2(1 + ranks_N), 0.0)
    found_N = (ranks_N <= _FOUND).astype(float)

    def score(name: str, values_N: np.ndarray) -> Score:
        details = {"cases": values_N.tolist()}
        found = bootstrap(values_N, seed=seed)
        return Score.estimated(name, found, better="higher", examples=len(values_N), of=of, details=details)

    return [score(metric, gains_N), score(f"recall@{_FOUND}", found_N)]


def _words_in_common(texts: Sequence[str], passages: Sequence[str]) -> np.ndarray:
    """Cosines of bags of words, float32 [N, P]."""
    bags = [Counter(re.findall(r"\w+", passage.lower())) for passage in passages]
    spread = Counter(word for bag in bags for word in bag)
    rarity = {word: math.log(1 + len(passages) / count) for word, count in spread.items()}
    number = {word: at for at, word in enumerate(spread)}

    def vectors(found: Sequence[Counter[str]]) -> np.ndarray:
        table = np.zeros((len(found), len(number)), np.float32)
        for row, bag in zip(table, found, strict=True):
            for word, count in bag.items():
                if word in number:
                    row[number[word]] = rarity[word] * (1 + math.log(count))
        return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)

    asked = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    cosines: np.ndarray = vectors(asked) @ vectors(bags).T
    return cosines
