"""How word vectors are learned: in many passes over the corpus, a fixed number of words a step; or in closed form.

`negative-sampling` takes steps of `kernels.cpp` (or of `reference`, without a compiler). The corpus is encoded once,
into a mapped file in sw2's cache; step s reads the words from s · words_per_step on, and begins again where it ends.
The learning rate falls in a straight line to a ten-thousandth of itself (as in word2vec). A state is the two matrices;
all else follows from the number of the step, so that a run goes on exactly where it was: on one thread with the same
bits as if it had never ended, on several from the same place.

With no words drawn (`negatives` 0) it is hierarchical softmax, down Huffman's tree of the words.

`closed-form` is one step: PPMI-SVD. GloVe has a room of its own.

What it does not do: vectors to start from.

Shapes: V words, R rows, D dimensions
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from sw2.base.config import check_ranges
from sw2.base.device import usable_cores
from sw2.base.errors import LearningError, UsageError
from sw2.base.seed import derive, numpy_generator
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Net, Program
from sw2.domains.words import native, reference
from sw2.domains.words.corpus import Corpus
from sw2.domains.words.lesson import POWERS, Lesson, Tree, Way, alias_table, keep_chances, matrix
from sw2.domains.words.models import SubwordVectors, WordVectors
from sw2.domains.words.ppmi import ppmi_svd
from sw2.domains.words.task import WordFinder
from sw2.domains.words.vocabulary import Encoded, WordPrep, encoded, rows_of
from sw2.parts.formats.fasttext import huffman, ways

__all__ = [
    "ClosedConfig",
    "ClosedForm",
    "LearnConfig",
    "NegativeSampling",
    "Piece",
    "closed_form",
    "learn",
    "pieces",
    "program_of",
    "sized",
]

_WAYS: Final[Mapping[str, Way]] = {"skip-gram": "skip-gram", "cbow": "cbow", "fasttext": "subwords"}
_WORDS_PER_STEP: Final = {"compiled": 100_000, "numpy": 1_000}
_LAST_RATE: Final = 1e-4
_FILLED_AT_ONCE: Final = 1 << 16


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How words learn from their neighbours.

    Args:
        window: how many words on each side are neighbours at most; each window draws its width from 1 to this.
        negatives: how many words are drawn to be told apart from a neighbour; 0 draws none and takes hierarchical
            softmax instead: all words lie in a tree, and each turn on the way to the neighbour is learned.
        learning_rate: at the beginning.
        subsample: words more frequent than this are left out now and then: about sqrt(subsample / frequency) of them
            stay; 0 leaves out none.
        words_per_step: how much of the corpus a step takes; 0 for 100,000, or 1,000 without a compiler.
        threads: how many work at once; 0 for as many as there are cores. More than one may differ in some bits from
            run to run.
    """

    window: int = 5
    negatives: int = 5
    learning_rate: float = 0.025
    subsample: float = 1e-3
    words_per_step: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "window": (1 <= self.window <= 20, "a whole number from 1 to 20"),
            "negatives": (0 <= self.negatives <= 20, "a whole number from 0 to 20"),
            "learning_rate": (0 < self.learning_rate <= 1, "a number above 0, up to 1"),
            "subsample": (0 <= self.subsample <= 1, "a number from 0 to 1"),
            "words_per_step": (0 <= self.words_per_step <= 1 << 30, "a whole number from 0 to 2^30"),
            "threads": (0 <= self.threads <= 1024, "a whole number from 0 to 1024"),
        }
        check_ranges("learn", self, allowed)


@dataclass(frozen=True, kw_only=True)
class ClosedConfig:
    """How neighbours are counted.

    Args:
        window: how many words on each side are neighbours.
    """

    window: int = 5

    def __post_init__(self) -> None:
        check_ranges("learn", self, {"window": (1 <= self.window <= 20, "a whole number from 1 to 20")})


@dataclass
class _State:
    job: Job
    corpus: Encoded
    lesson: Lesson
    words_per_step: int


@final
class NegativeSampling(Objective[_State]):
    """Learns to tell neighbours from words drawn at random, or the way to them down a tree.

    Args:
        config: see LearnConfig.
        provider: of the programs, for their folder.
    """

    makes = "word-vectors"

    def __init__(self, config: LearnConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        if job.model_name not in _WAYS:
            raise UsageError("This model is not learned so.", wanted=" or ".join(_WAYS), got=job.model_name)
        compiled = native.why_not() is None
        threads = (self.config.threads or usable_cores()) if compiled else 1
        reasons = {
            "threads": "set by hand" if self.config.threads else "one for each core" if compiled else "no compiler"
        }
        per_step = self.config.words_per_step or _WORDS_PER_STEP["compiled" if compiled else "numpy"]
        return Choices(values={"threads": threads, "words_per_step": per_step}, reasons=reasons)

    def start(self, job: Job) -> _State:
        prep, config, train = job.prep, sized(job), job.data.split("train")
        assert isinstance(prep, WordPrep)
        assert isinstance(train, Corpus)
        corpus = encoded(train, prep, job.data.fingerprint)
        words, dimensions = len(prep.words), config.dimensions
        rows, borders, parts = words, None, None
        if isinstance(config, SubwordVectors.Config):
            rows += config.buckets
            borders, parts = rows_of(prep.words, config.shortest, config.longest, config.buckets, words, own=True)
        way = _WAYS[job.model_name]
        threshold, alias = alias_table(prep.counts, POWERS[way])
        lesson = Lesson(
            tokens=corpus.tokens,
            keep=keep_chances(prep.counts, self.config.subsample),
            threshold=threshold,
            alias=alias,
            input=_drawn(rows, dimensions, job.seed),
            output=matrix(words, dimensions),
            borders=borders,
            parts=parts,
            tree=None if self.config.negatives else Tree(*ways(huffman(prep.counts))),
            way=way,
            window=self.config.window,
            negatives=self.config.negatives,
            threads=job.choices["threads"],
        )
        return _State(job, corpus, lesson, min(job.choices["words_per_step"], len(corpus.tokens)))

    def steps_per_epoch(self, state: _State) -> float:
        return len(state.corpus.tokens) / state.words_per_step

    def step(self, state: _State, clock: Clock) -> Metrics:
        take = native.step if native.why_not() is None else reference.step
        loss, pairs = 0.0, 0
        first, last = (self._rate(clock.step + ahead, clock.total) for ahead in (0, 1))
        for piece in pieces(clock.step * state.words_per_step, state.words_per_step, len(state.corpus.tokens)):
            rates = (first + (last - first) * piece.before, first + (last - first) * piece.after)
            seed = derive(state.job.seed, "words", piece.epoch)
            told = take(state.lesson, piece.begin, piece.end, seed, rates)
            loss, pairs = loss + told.loss, pairs + told.pairs
        state.corpus.release()
        if not math.isfinite(loss):
            raise LearningError(
                "The loss is not finite.",
                where=f"step {clock.step}",
                wanted="a number",
                got=loss,
                do="Lower --set learn.learning_rate.",
            )
        return {"loss": loss / max(pairs, 1), "learning_rate": first}

    def _rate(self, step: int, total: int) -> float:
        return self.config.learning_rate * max(1 - step / total, _LAST_RATE)

    def snapshot(self, state: _State) -> Snapshot:
        return Snapshot(tensors={name: torch.from_numpy(array) for name, array in _matrices(state).items()})

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        for name, array in _matrices(state).items():
            array[:] = snapshot.tensors[name].numpy()

    def finish(self, state: _State) -> Program:
        return program_of(state.job, state.lesson.input, self.provider)

    def notes(self, state: _State) -> Sequence[str]:
        reason = native.why_not()
        return [] if reason is None else [f"The kernels do not run here, so learning takes long: {reason}"]

    def facts(self, state: _State) -> Mapping[str, Any]:
        share = state.corpus.words / len(state.corpus.tokens)
        return {
            "unit": "words",
            "words_per_step": round(state.words_per_step * share),
            "words": state.corpus.words,
            "vocabulary": len(state.lesson.output),
            "parameters": state.lesson.input.shape[0] * sized(state.job).dimensions,
        }


class Piece(NamedTuple):
    """A part of a step that lies within one pass: places [begin, end) of pass `epoch`, and the shares of the step that
    are done before and after it.
    """

    begin: int
    end: int
    epoch: int
    before: float
    after: float


def pieces(position: int, count: int, length: int) -> Iterator[Piece]:
    """The pieces of a step of `count` places, from `position` of all passes over `length` places on.

    >>> [(piece.begin, piece.end, piece.epoch) for piece in pieces(8, 5, 10)]
    [(8, 10, 0), (0, 3, 1)]
    """
    done = 0
    while done < count:
        epoch, begin = divmod(position + done, length)
        end = min(length, begin + count - done)
        then = done + end - begin
        yield Piece(begin, end, epoch, done / count, then / count)
        done = then


def sized(job: Job) -> WordVectors.Config | SubwordVectors.Config:
    """The config of the model, with the number of words."""
    assert isinstance(job.prep, WordPrep)
    if job.model_config.words:
        raise UsageError(
            "How many words there are is found in the corpus.",
            where="model.words",
            wanted="prep.min_count or prep.most_words",
            got=job.model_config.words,
        )
    if job.model_config.bits:
        raise UsageError(
            "Codes cannot learn.", where="model.bits", wanted="0, then sw2 shrink", got=job.model_config.bits
        )
    return dataclasses.replace(job.model_config, words=len(job.prep.words))


def _drawn(rows: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Vectors at the beginning: uniform, of length about 1 / sqrt(12 D)."""
    made, random = matrix(rows, dimensions), numpy_generator(seed, "words", "start")
    for begin in range(0, rows, _FILLED_AT_ONCE):
        part = made[begin : begin + _FILLED_AT_ONCE, :dimensions]
        part[:] = (random.random(part.shape, np.float32) - np.float32(0.5)) / np.float32(dimensions)
    return made


def _matrices(state: _State) -> dict[str, NDArray[np.float32]]:
    return {"input": state.lesson.input, "output": state.lesson.output}


def program_of(job: Job, vectors: NDArray[np.float32], provider: Mapping[str, str]) -> Program:
    """The program of vectors: a copy of rows [R, S], of which the first D numbers count."""
    config = sized(job)
    model = job.model_class(config)
    assert isinstance(model, WordVectors | SubwordVectors)
    model.weight.data.copy_(torch.from_numpy(vectors[:, : config.dimensions]))
    net = Net(job.model_name, model)
    return Program.assemble(task=job.task, runtime=WordFinder, nets={"vectors": net}, prep=job.prep, provider=provider)


@dataclass
class _Factored:
    job: Job
    corpus: Encoded
    vectors: NDArray[np.float32]


@final
class ClosedForm(Objective[_Factored]):
    """PPMI-SVD, in one step.

    Args:
        config: see ClosedConfig.
        provider: of the programs, for their folder.
    """

    makes = "word-vectors"

    def __init__(self, config: ClosedConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        del job
        return Choices()

    def start(self, job: Job) -> _Factored:
        prep, config, train = job.prep, sized(job), job.data.split("train")
        assert isinstance(prep, WordPrep)
        assert isinstance(train, Corpus)
        if config.dimensions >= len(prep.words):
            raise UsageError(
                "A factorisation has fewer dimensions than words.",
                where="model.dimensions",
                wanted=f"below {len(prep.words)}",
                got=config.dimensions,
            )
        vectors = np.zeros((len(prep.words), config.dimensions), np.float32)
        return _Factored(job, encoded(train, prep, job.data.fingerprint), vectors)

    def own_length(self, state: _Factored) -> int:
        return 1

    def step(self, state: _Factored, clock: Clock) -> Metrics:
        del clock
        words, dimensions = state.vectors.shape
        state.vectors[:] = ppmi_svd(
            state.corpus.tokens, words, dimensions=dimensions, window=self.config.window, seed=state.job.seed
        )
        return {"length": float(np.linalg.norm(state.vectors, axis=1).mean())}

    def snapshot(self, state: _Factored) -> Snapshot:
        return Snapshot(tensors={"vectors": torch.from_numpy(state.vectors)})

    def restore(self, state: _Factored, snapshot: Snapshot) -> None:
        state.vectors[:] = snapshot.tensors["vectors"].numpy()

    def finish(self, state: _Factored) -> Program:
        return program_of(state.job, state.vectors, self.provider)

    def facts(self, state: _Factored) -> Mapping[str, Any]:
        return {"words": state.corpus.words, "vocabulary": len(state.vectors), "parameters": state.vectors.size}


def learn(config: LearnConfig, provider: Mapping[str, str]) -> NegativeSampling:
    """The way to learn from neighbours, for programs of this provider."""
    return NegativeSampling(config, provider)


def closed_form(config: ClosedConfig, provider: Mapping[str, str]) -> ClosedForm:
    """The way to factorise, for programs of this provider."""
    return ClosedForm(config, provider)
