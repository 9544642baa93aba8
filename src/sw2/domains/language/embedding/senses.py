"""The claim `word-senses`: does a word's vector in its sentence tell its sense, where its single vector cannot?

    x_i                  the vector of the word in sentence i
    centroid_s without i the mean of x_j over the other sentences j of sense s
    guess_i              the sense whose centroid has the larger cosine to x_i        (leave one out)

A word's single vector is the same in all its sentences, so that both cosines are equal: half of the guesses are right.
Vectors are those of all-MiniLM-L6-v2, taken before and after each of its blocks. Beside them stands the mean of the
single vectors of all other words of the sentence: what the topic alone gives away, with no network that mixes.

Sources: Peters et al. 2018, arXiv:1802.05365, section 5.3 (senses by nearest neighbours of contextual vectors); Reif et
al. 2019, arXiv:1906.02715 (BERT's, by centroids); Schütze 1998, J98-1004 of the ACL Anthology (means of neighbours).

What it does not do: finding senses that nobody named, words of several pieces, other languages.

Shapes: L blocks, W words, N and M sentences of either sense, D dimensions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sw2.base.seed import numpy_generator
from sw2.core.claims import Plot, Result, by_interval, seeds_of
from sw2.core.task import Context
from sw2.domains.language.embedding.encoder import TextEncoder
from sw2.domains.language.embedding.minilm import loaded
from sw2.domains.language.embedding.pieces import PiecePrep
from sw2.domains.language.embedding.sentences import SENTENCES
from sw2.parts.metrics.intervals import student

__all__ = ["left_out", "run", "vectors"]

_CHANCE: Final = 0.5
_OF_ONE: Final = 20  # draws of one example for each sense, a seed

Vectors = NDArray[np.float32]


@torch.inference_mode()
def vectors(net: TextEncoder, prep: PiecePrep, word: str, sentences: Sequence[str]) -> tuple[Vectors, Vectors]:
    """The word in each sentence, before and after each block [L + 1, N, D], and the mean of the other words [N, D].

    Args:
        net, prep: the encoder.
        word: of one piece.
        sentences: N of them, in each of which the word stands once.
    """
    (_, piece, _), *texts = prep.encode([word, *sentences])
    found, others = [], []
    for text in texts:
        assert text.count(piece) == 1
        place = text.index(piece)
        batch = {"tokens": torch.tensor([text]), "lengths": torch.tensor([len(text)])}
        found.append([x_BTD[0, place].float().numpy() for x_BTD in net.states(batch)])
        rest = [each for each in text[1:-1] if each != piece]
        others.append(net.embedding.weight[rest].float().mean(0).numpy())
    return np.array(found).swapaxes(0, 1), np.array(others)


def left_out(first_ND: Vectors, second_MD: Vectors) -> NDArray[np.float64]:
    """Whether each sentence of two senses is nearer to its own sense: 1, 0, or a half where both are equally near.

    Args:
        first_ND, second_MD: the vectors of either sense, at least two of each.

    Returns:
        float64 [N + M], the first sense's, then the second's.
    """
    right = []
    for own, other in ((first_ND, second_MD), (second_MD, first_ND)):
        for place, x_D in enumerate(own):
            mine = _cosine(x_D, np.delete(own, place, axis=0).mean(0))
            right.append((np.sign(_rounded(mine - _cosine(x_D, other.mean(0)))) + 1) / 2)
    return np.array(right)


def _of_one(first_ND: Vectors, second_MD: Vectors, random: np.random.Generator) -> float:
    """The share of the other sentences that are nearer to the one drawn of their sense than to that of the other."""
    right = []
    for _ in range(_OF_ONE):
        places = random.integers(0, len(first_ND)), random.integers(0, len(second_MD))
        drawn = first_ND[places[0]], second_MD[places[1]]
        for sense, sentences in enumerate((first_ND, second_MD)):
            for place, x_D in enumerate(sentences):
                if place != places[sense]:
                    apart = _cosine(x_D, drawn[sense]) - _cosine(x_D, drawn[1 - sense])
                    right.append((np.sign(_rounded(apart)) + 1) / 2)
    return float(np.mean(right))


def _cosine(a_D: Vectors, b_D: Vectors) -> float:
    return float(a_D @ b_D / max(float(np.linalg.norm(a_D) * np.linalg.norm(b_D)), 1e-30))


def _rounded(apart: float) -> float:
    """0 for a difference that rounding alone makes."""
    return apart if abs(apart) > 1e-6 else 0.0


def run(context: Context, full: bool) -> Result:
    """The claim `word-senses`."""
    net, prep = loaded(context, "try another claim")
    ways: dict[str, list[float]] = {"single vector": [], "the other words' single vectors": [], "in its sentence": []}
    layers_WL, drawn_W = [], []
    rows: list[list[str | float | int | None]] = []
    for word, senses in SENTENCES.items():
        (first, first_others), (second, second_others) = (
            vectors(net, prep, word, sentences) for sentences in senses.values()
        )
        layers_WL.append([float(left_out(*pair).mean()) for pair in zip(first, second, strict=True)])
        ((_, piece, _),) = prep.encode([word])
        single_ND = np.repeat(net.embedding.weight[[piece]].detach().float().numpy(), len(first[0]), axis=0)
        ways["single vector"].append(float(left_out(single_ND, single_ND).mean()))
        ways["the other words' single vectors"].append(float(left_out(first_others, second_others).mean()))
        ways["in its sentence"].append(layers_WL[-1][-1])
        seeds = seeds_of(context.seed, full)
        drawn_W.append(
            float(np.mean([_of_one(first[-1], second[-1], numpy_generator(seed, "senses", word)) for seed in seeds]))
        )
        rows.append([word, ", ".join(senses), *(each[-1] for each in ways.values()), drawn_W[-1]])
        context.say(f"{word}: {layers_WL[-1][-1]:.3f} in its sentence")
    return _result(ways, np.array(layers_WL), drawn_W, rows)


def _result(
    ways: Mapping[str, Sequence[float]],
    layers_WL: NDArray[np.float64],
    drawn_W: Sequence[float],
    rows: list[list[str | float | int | None]],
) -> Result:
    found, others = student(ways["in its sentence"]), student(ways["the other words' single vectors"])
    means = [float(np.mean(each)) for each in (*ways.values(), drawn_W)]
    sentences = sum(len(each) for senses in SENTENCES.values() for each in senses.values())
    return Result(
        verdict=by_interval(found, above=_CHANCE),
        why=f"the sense is right for {found.value:.1%} of the sentences ({found.low:.1%} to {min(found.high, 1):.1%} "
        f"over words) by the word's vector in its sentence, for {means[0]:.1%} by its single vector, and for "
        f"{others.value:.1%} by the single vectors of the other words.",
        head=("word", "senses", *ways, "in its sentence, one example"),
        rows=[*rows, ["mean", "", *means]],
        plots=[
            Plot(
                title="Senses told right by the word's vector after each block",
                axis="block",
                lines={
                    "in its sentence": list(enumerate(layers_WL.mean(0).tolist())),
                    "single vector": [(layer, _CHANCE) for layer in range(layers_WL.shape[1])],
                },
                caption="Block 0: the single vector and the place in the sentence.",
            )
        ],
        notes=(
            f"all-MiniLM-L6-v2, {len(SENTENCES)} words of two senses, {sentences} sentences, each left out in turn. "
            "The interval is Student's over words. The sentences were written to show two senses, and may be easier "
            "than those of a corpus.",
            "One example: the centroid is one sentence, drawn for each sense.",
        ),
    )
