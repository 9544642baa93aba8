"""How a language model is learned: every next token, in windows of a memory-mapped shard.

Shapes: B rows, T tokens.

Training documents are encoded once into a shard (`parts.data.shards`) in sw2's cache, one after the other, each behind
`<|endoftext|>`. A row is a window of T + 1 tokens; documents that share a row do not see each other. The loss is the
sum of -ln p over tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sw2.base.config import replace
from sw2.base.errors import DataError, UsageError
from sw2.base.seed import generator
from sw2.base.store import home, sha256_of_bytes
from sw2.core.data import Split
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets, Player, Source
from sw2.core.model import Batch, Model
from sw2.core.objective import Job, Metrics
from sw2.core.program import Net, Program
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.task import TextPrep, TextWriter
from sw2.parts.data.order import ShuffledOrder
from sw2.parts.data.shards import Shard, write_shard

__all__ = ["LearnConfig", "learn"]


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How a language model is learned.

    Args:
        gradient: batches (in rows), optimiser, precision; see `core.gradient`.
        validation_tokens: how many tokens of the validation documents each evaluation looks at.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    validation_tokens: int = 16_384


def learn(config: LearnConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient("text-generation", config.gradient, lambda job: _lesson(job, config, provider))


class _Windows(Source):
    """Rows of T + 1 tokens from a shard, shuffled."""

    def __init__(self, shard: Shard, context: int, batch: int, seed: int) -> None:
        self.shard, self.context = shard, context
        self.order = ShuffledOrder((len(shard) - 1) // context, batch, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        return _rows(self.shard, self.context, self.order.share(step, rank, size))

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()


def _rows(shard: Shard, context: int, numbers: np.ndarray) -> Batch:
    """The windows of those numbers: "tokens", "targets" and "documents", int64 [B, T]."""
    windows = [shard.window(int(number) * context, context + 1) for number in numbers]
    tokens = torch.from_numpy(np.stack([tokens for tokens, _ in windows]))
    documents = torch.from_numpy(np.stack([documents for _, documents in windows]))
    return {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "documents": documents[:, :-1]}


def _shard(prep: TextPrep, examples: Split, fingerprint: str, split: str) -> Shard:
    """The shard of a split, from the cache or made now."""
    key = sha256_of_bytes(f"{fingerprint}{split}{prep.tokenizer.to_json()}".encode())
    path: Path = home() / "shards" / key[:32]
    if not (path / "borders.npy").exists():
        write_shard(path, prep.documents(examples), prep.tokenizer.vocab_size)
    return Shard(path, prep.tokenizer.vocab_size)


def _lesson(job: Job, config: LearnConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, TextPrep)
    if job.model_config.vocab_size not in (0, prep.config.vocab_size):
        raise UsageError(
            "The setting 'model.vocab_size' contradicts the tokenizer.",
            wanted=f"{prep.config.vocab_size}, as prep.vocab_size says",
            got=job.model_config.vocab_size,
            do="Leave model.vocab_size out; set prep.vocab_size.",
        )
    # A tokenizer of little text stays smaller than it was allowed to be.
    rows = prep.tokenizer.vocab_size
    if "start" in job.parents:
        # A foreign network may have more rows than its tokenizer has tokens.
        rows = job.parents["start"].nets["decoder"].module.config.vocab_size
    model_config: Decoder.Config = replace(job.model_config, vocab_size=rows)
    shard = _shard(prep, job.data.split("train"), job.data.fingerprint, "train")
    if len(shard) <= model_config.context:
        raise DataError(
            "There is too little text to learn from.",
            where=job.data.source,
            wanted=f"more than one context of {model_config.context} tokens",
            got=f"{len(shard)} tokens",
            do="Add text, or lower --set model.context.",
        )
    net = Decoder(model_config)
    net.initialise(generator(job.seed, "weights"))
    if "start" in job.parents:
        start = job.parents["start"].nets["decoder"].module
        assert isinstance(start, Decoder)
        net.load_state_dict(start.unpacked().state_dict())
    batch = config.gradient.batch_size

    def loss(nets: Nets, batch: Batch) -> Loss:
        nats_BT = nets["decoder"](batch)["nats"]
        return Loss(nats_BT.sum(), nats_BT.numel())

    return Lesson(
        nets={"decoder": net},
        players=[Player(name="decoder", nets=("decoder",), loss=loss)],
        source=_Windows(shard, model_config.context, batch, job.seed),
        validate=_validation(job, prep, model_config.context, config.validation_tokens),
        assemble=lambda nets: Program.assemble(
            task=job.task,
            runtime=ChatWriter if prep.controls.chat_template else TextWriter,
            nets={role: Net(job.model_name, module) for role, module in nets.items()},
            prep=prep,
            provider=provider,
        ),
        items=("tokens", batch * model_config.context),
    )


def _validation(job: Job, prep: TextPrep, context: int, tokens: int) -> Callable[[Mapping[str, Model]], Metrics] | None:
    """The function that computes the loss per token and bits per byte on validation documents; None without any."""
    if "validation" not in job.data.splits:
        return None
    examples = job.data.split("validation")
    shard = _shard(prep, examples, job.data.fingerprint, "validation")
    windows = min((len(shard) - 1) // context, max(1, tokens // context))
    if windows < 1:
        return None
    numbers = np.linspace(0, (len(shard) - 1) // context - 1, windows).astype(int)
    bytes_per_token = sum(len(e["text"].encode()) for e in examples) / len(shard)

    def validate(nets: Mapping[str, Model]) -> Metrics:
        total = 0.0
        for start in range(0, windows, 8):
            rows = {k: v.to(job.device) for k, v in _rows(shard, context, numbers[start : start + 8]).items()}
            total += float(nets["decoder"](rows)["nats"].double().sum())
        loss = total / (windows * context)
        return {"loss": loss, "bits per byte": loss / float(np.log(2)) / bytes_per_token}

    return validate
