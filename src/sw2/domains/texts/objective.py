"""How the model is learned: stochastic gradient descent, text by text, on the few rows that a text has.

With hidden h = Σ c_i e_i / M (e_i the rows of the text, c_i how often each occurs, M how many in all):

    softmax                g_k = η (y_k - p_k)                    for each label k
    hierarchical softmax   g_n = η (turn_n - σ(o_n · h))          for each node n on the way to the label
    then                   e_i += c_i / M · Σ g_k o_k             o_k += g_k h

with a rate η that falls in a straight line to 0. One step takes some hundred texts of an order that is drawn anew for
each pass. Texts are cut once; `kernels.cpp` learns them, or `descent` without a compiler. On one thread a run has the
same bits every time, on several (`learn.threads`) only the same place, since they change one matrix without locks.

A loss that is not finite ends it before that text changes anything.

Source: Joulin et al. 2016, arXiv:1607.01759; hierarchical softmax: Goodman 2001, Mikolov et al. 2013, arXiv:1301.3781.

What it does not do: learning on from a program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.config import check_ranges, replace
from sw2.base.errors import LearningError, UsageError
from sw2.base.seed import numpy_generator
from sw2.core.model import count_parameters
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Net, Program
from sw2.domains.texts import descent, native
from sw2.domains.texts.bags import BagOfNgrams
from sw2.domains.texts.prep import TextPrep
from sw2.domains.texts.task import TextClassifier

__all__ = ["LearnConfig", "TextByText"]

_LEARNED: Final = ("softmax", "hierarchical softmax")


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """The settings.

    Args:
        rate: η at the first text.
        texts: of one step.
        threads: how many work at once. More than one may differ in some bits from run to run.
    """

    rate: float = 0.5
    texts: int = 500
    threads: int = 1

    def __post_init__(self) -> None:
        allowed = {
            "rate": (0 < self.rate <= 10, "a number above 0, up to 10"),
            "texts": (1 <= self.texts <= 1_000_000, "a whole number from 1 to 1000000"),
            "threads": (1 <= self.threads <= 1024, "a whole number from 1 to 1024"),
        }
        check_ranges("learn", self, allowed)


@dataclass
class _State:
    """What is learned, in the parameters' own memory, and the orders of the last two passes that were asked for."""

    job: Job
    net: BagOfNgrams
    lesson: descent.Lesson
    orders: dict[int, NDArray[np.int64]] = field(default_factory=dict)


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
        if self.config.threads > 1 and (reason := native.why_not()):
            raise UsageError(
                "Several threads need the kernels.",
                where="learn.threads",
                wanted="1",
                got=reason,
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
        tree = net.config.loss == "hierarchical softmax"
        lesson = descent.Lesson(
            bags=prep.bags([example["text"] for example in train]),
            targets=np.array([prep.number[example["label"]] for example in train], np.int64),
            input=first,
            output=last,
            ways=descent.ways_of(prep.dictionary.tree) if tree else None,
            threads=self.config.threads,
        )
        return _State(job, net, lesson)

    def steps_per_epoch(self, state: _State) -> float:
        return len(state.lesson.bags) / self.config.texts

    def step(self, state: _State, clock: Clock) -> Metrics:
        size = self.config.texts
        chosen = np.concatenate(list(self._chosen(state, clock.step * size)))
        first, last = (self.config.rate * (1 - (clock.step + ahead) / clock.total) for ahead in (0, 1))
        take = native.learn if native.why_not() is None else descent.learn
        loss = take(state.lesson, chosen, (first, last))
        if not math.isfinite(loss):
            raise LearningError(
                "The loss is not finite.", wanted="a lower rate", got=loss, do="--set learn.rate=0.1, for instance."
            )
        return {"loss": loss / size}

    def _chosen(self, state: _State, place: int) -> Iterator[NDArray[np.int64]]:
        """The texts of the step that begins at `place` of all passes, in pieces of one pass."""
        count, left = len(state.lesson.bags), self.config.texts
        while left:
            epoch, within = divmod(place, count)
            if epoch not in state.orders:
                state.orders = {each: order for each, order in state.orders.items() if each == epoch - 1}
                state.orders[epoch] = numpy_generator(state.job.seed, "order", epoch).permutation(count)
            piece = state.orders[epoch][within : within + left]
            yield piece
            place, left = place + len(piece), left - len(piece)

    def notes(self, state: _State) -> Sequence[str]:
        reason = native.why_not()
        return [] if reason is None else [f"The kernels do not run here, so learning takes long: {reason}"]

    def snapshot(self, state: _State) -> Snapshot:
        return Snapshot(tensors=state.net.state_dict())

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        state.net.load_state_dict(dict(snapshot.tensors))

    def facts(self, state: _State) -> Mapping[str, int | str]:
        return {
            "parameters": count_parameters(state.net),
            "unit": "texts",
            "texts_per_step": self.config.texts,
            "rows": len(state.lesson.input),
        }

    def finish(self, state: _State) -> Program:
        return Program.assemble(
            task=state.job.task,
            runtime=TextClassifier,
            nets={"classifier": Net(state.job.model_name, state.net)},
            prep=state.job.prep,
            provider=self.provider,
        )
