"""How a window of words is learned: every next word of all documents, like a decoder (`language.objective`).

Rows, their order, sources of a mixture and validation are the decoder's; what differs is the network and what it
begins from: there is no start and there are no adapters, so those are no settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from sw2.base.config import check_ranges, replace
from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets, Player
from sw2.core.model import Batch, Model
from sw2.core.objective import Job
from sw2.core.program import Net, Program
from sw2.domains.language.objective import mixture, validation
from sw2.domains.language.window.network import WordWindow
from sw2.domains.language.window.words import WordPrep
from sw2.domains.language.window.writer import WordWriter

__all__ = ["LearnConfig", "learn"]


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How a window of words is learned.

    Args:
        gradient: batches (in rows), optimiser, precision; see `core.gradient`.
        validation_tokens: how many words of the validation documents each evaluation looks at.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    validation_tokens: int = 65_536

    def __post_init__(self) -> None:
        allowed = {"validation_tokens": (self.validation_tokens >= 1, "a whole number of at least 1")}
        check_ranges("learn", self, allowed)


def learn(config: LearnConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient("text-generation", config.gradient, lambda job: _lesson(job, config, provider))


def _lesson(job: Job, config: LearnConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, WordPrep)
    net = _network(job, prep)
    context, batch = net.config.context, config.gradient.batch_size
    source = mixture(job, prep, context, batch)

    def loss(nets: Nets, batch: Batch) -> Loss:
        nats_BT = nets["window"](batch)["nats"]
        return Loss(nats_BT.sum(), int((batch["targets"] >= 0).sum()))

    def assemble(nets: Mapping[str, Model]) -> Program:
        return Program.assemble(
            task=job.task,
            runtime=WordWriter,
            nets={"window": Net(job.model_name, nets["window"])},
            prep=prep,
            provider=provider,
        )

    return Lesson(
        nets={"window": net},
        players=[Player(name="window", nets=("window",), loss=loss)],
        source=source,
        validate=validation(job, prep, "window", context, config.validation_tokens),
        assemble=assemble,
        items=("words", batch * context),
        facts={"vocabulary": prep.tokenizer.vocab_size, **source.facts()},
    )


def _network(job: Job, prep: WordPrep) -> WordWindow:
    """A new network for a vocabulary.

    Raises:
        UsageError: a setting of the model contradicts the vocabulary.
    """
    words = prep.tokenizer
    if job.model_config.vocab_size not in (0, words.vocab_size):
        raise UsageError(
            "The setting 'model.vocab_size' contradicts the vocabulary.",
            wanted=f"{words.vocab_size} words",
            got=job.model_config.vocab_size,
            do="Leave it out, and set prep.min_count or prep.most_words.",
        )
    net = WordWindow(replace(job.model_config, vocab_size=words.vocab_size))
    net.initialise(generator(job.seed, "weights"), torch.from_numpy(words.counts))
    return net
