"""How the model is learned: stochastic gradient descent, text by text, on the few rows that a text has.

With hidden h = Σ c_i e_i / M (e_i the rows of the text, c_i how often each occurs, M how many in all):

    softmax                g_k = η (y_k - p_k)                    for each label k
    hierarchical softmax   g_n = η (turn_n - σ(o_n · h))          for each node n on the way to the label
    then                   e_i += c_i / M · Σ g_k o_k             o_k += g_k h

with a rate η that falls in a straight line to 0. One step takes some hundred texts of an order that is drawn anew for
each pass. It runs on the processor, in numpy, on one thread: the same bits every time.

Source: Joulin et al. 2016, arXiv:1607.01759; hierarchical softmax: Goodman 2001, Mikolov et al. 2013, arXiv:1301.3781.

What it does not do: several threads, learning on from a program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges, replace
from sw2.base.errors import LearningError, UsageError
from sw2.base.seed import numpy_generator
from sw2.core.model import count_parameters
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Net, Program
from sw2.domains.texts.bags import BagOfNgrams
from sw2.domains.texts.prep import TextPrep
from sw2.domains.texts.task import TextClassifier
from sw2.parts.formats import fasttext

__all__ = ["LearnConfig", "TextByText"]

_LEARNED: Final = ("softmax", "hierarchical softmax")


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """The settings.

    Args:
        rate: η at the first text.
        texts: of one step.
    """

    rate: float = 0.5
    texts: int = 500

    def __post_init__(self) -> None:
        allowed = {
            "rate": (0 < self.rate <= 10, "a number above 0, up to 10"),
            "texts": (1 <= self.texts <= 1_000_000, "a whole number from 1 to 1000000"),
        }
        check_ranges("learn", self, allowed)


@dataclass
class _State:
    """What is learned, the parameters' own memory: [R, D] and [K, D]; and from what."""

    job: Job
    net: BagOfNgrams
    first: NDArray[np.float32]
    last: NDArray[np.float32]
    bags: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]
    targets: NDArray[np.int64]
    ways: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]]


@final
class TextByText(Objective[_State]):
    """The descent at the top of this file.

    Args:
        config: its settings.
        provider: the domain and distribution that its programs name.
    """

    makes = "text-classification"

    def __init__(self, config: LearnConfig, provider: Mapping[str, str]) -> None:
        self.config, self.provider = config, provider

    def choose(self, job: Job) -> Choices:
        config, plain = job.model_config, BagOfNgrams.Config()
        if (config.rows, config.labels) != (plain.rows, plain.labels):
            raise UsageError(
                "The texts tell how many rows and labels there are.",
                where="model.rows, model.labels",
                wanted="neither of them set",
                got=f"{config.rows}, {config.labels}",
            )
        if config.loss not in _LEARNED:
            raise UsageError(
                "This loss is only that of models that were opened.",
                where="model.loss",
                wanted=" or ".join(_LEARNED),
                got=config.loss,
            )
        return Choices()  # nothing depends on the machine

    def start(self, job: Job) -> _State:
        prep = job.prep
        assert isinstance(prep, TextPrep)
        net = BagOfNgrams(replace(job.model_config, rows=prep.row_count, labels=len(prep.labels)))
        dimensions = net.config.dimensions
        first, last = net.input.detach().numpy(), net.output.detach().numpy()
        draw = numpy_generator(job.seed, "rows")
        first[:] = draw.uniform(-1 / dimensions, 1 / dimensions, first.shape)
        train = job.data.split("train")
        bags = []
        for example in train:
            rows, counts = np.unique(prep.rows(example["text"]), return_counts=True)
            bags.append((rows, (counts / max(counts.sum(), 1)).astype(np.float32)))
        targets = np.array([prep.number[example["label"]] for example in train])
        ways = _ways(prep) if net.config.loss == "hierarchical softmax" else []
        return _State(job, net, first, last, bags, targets, ways)

    def steps_per_epoch(self, state: _State) -> float:
        return len(state.bags) / self.config.texts

    def step(self, state: _State, clock: Clock) -> Metrics:
        size, count = self.config.texts, len(state.bags)
        orders: dict[int, NDArray[np.int64]] = {}
        chosen = []
        for place in range(clock.step * size, (clock.step + 1) * size):
            epoch, within = divmod(place, count)
            if epoch not in orders:
                orders[epoch] = numpy_generator(state.job.seed, "order", epoch).permutation(count)
            chosen.append(int(orders[epoch][within]))
        touched = np.unique(np.concatenate([state.bags[text][0] for text in chosen]))
        before = state.first[touched], state.last.copy()
        loss = 0.0
        with np.errstate(all="ignore"):  # looked at below, and told as what it is
            for number, text in enumerate(chosen):
                rate = self.config.rate * (1 - (clock.step + number / size) / clock.total)
                loss += self._learn(state, text, np.float32(rate))
        if not math.isfinite(loss):
            state.first[touched], state.last[:] = before
            raise LearningError(
                "The loss is not finite.", wanted="a lower rate", got=loss, do="--set learn.rate=0.1, for instance."
            )
        return {"loss": loss / size}

    def _learn(self, state: _State, text: int, rate: np.float32) -> float:
        """Learn one text; its loss before."""
        rows, shares = state.bags[text]
        if not len(rows):
            return 0.0
        hidden = shares @ state.first[rows]
        target = int(state.targets[text])
        nodes: NDArray[np.int32] | slice
        if state.ways:
            nodes, turns = state.ways[target]
            some = state.last[nodes]
            guessed = 1 / (1 + np.exp(-(some @ hidden)))
            missing = turns - guessed
            loss = -float(np.log(np.maximum(1 - np.abs(missing), np.float32(1e-12))).sum())
        else:
            nodes, some = slice(None), state.last
            scores = some @ hidden
            raised = np.exp(scores - scores.max())
            guessed = raised / raised.sum()
            missing = -guessed
            missing[target] += 1
            loss = -float(np.log(np.maximum(guessed[target], np.float32(1e-12))))
        step = rate * missing
        change = step @ some
        state.last[nodes] += np.outer(step, hidden)
        state.first[rows] += np.outer(shares, change)
        return loss

    def snapshot(self, state: _State) -> Snapshot:
        return Snapshot(tensors=state.net.state_dict())

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        state.net.load_state_dict(dict(snapshot.tensors))

    def facts(self, state: _State) -> Mapping[str, int | str]:
        return {
            "parameters": count_parameters(state.net),
            "unit": "texts",
            "texts_per_step": self.config.texts,
            "rows": len(state.first),
        }

    def finish(self, state: _State) -> Program:
        return Program.assemble(
            task=state.job.task,
            runtime=TextClassifier,
            nets={"classifier": Net(state.job.model_name, state.net)},
            prep=state.job.prep,
            provider=self.provider,
        )


def _ways(prep: TextPrep) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """For each label the inner nodes above it, and 1 where the way goes to the right, 0 to the left."""
    borders, nodes, turns = fasttext.ways(prep.dictionary.tree)
    return list(zip(np.split(nodes, borders[1:-1]), np.split(turns, borders[1:-1]), strict=True))
