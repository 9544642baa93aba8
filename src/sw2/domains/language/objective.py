"""How a language model is learned: every next token, in rows of a memory-mapped shard.

Shapes: B rows, T tokens.

The training documents of each source are encoded once into a shard (`parts.data.shards`) in sw2's cache, one after the
other, each behind `<|endoftext|>`. A row is T tokens of it and the token after each (`parts.data.packing`); documents
that share a row do not see each other. Which rows of which source a step takes is a function of the step
(`parts.data.order`), the same on any number of processes. The loss is the sum of -ln p over tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sw2.base.errors import DataError
from sw2.base.store import home, sha256_of_bytes
from sw2.core.data import Split
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets, Source
from sw2.core.model import Batch, Model
from sw2.core.objective import Job, Metrics
from sw2.domains.language.corpus import by_source
from sw2.domains.language.corpus.mixture import shares_of
from sw2.domains.language.prep import TextPrep, TokenPrep
from sw2.domains.language.starting import assembled, check_adapters, player, starting_net
from sw2.parts.data.order import PERIOD, MixedOrder
from sw2.parts.data.packing import Rows, best_fit, concatenated
from sw2.parts.data.shards import Shard, write_shard
from sw2.parts.layers.lora import LoraConfig

__all__ = ["LearnConfig", "Mixture", "learn", "mixture", "validation"]

Packing = Literal["concatenate", "best-fit"]


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How a language model is learned.

    Args:
        gradient: batches (in rows), optimiser, precision; see `core.gradient`.
        packing: how documents come into rows: "concatenate" cuts them anywhere and loses nothing, "best-fit" cuts only
            those that are longer than a row and leaves some room empty.
        lora: adapters that learn in the place of all weights; see `parts.layers.lora`.
        validation_tokens: how many tokens of the validation documents each evaluation looks at.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    packing: Packing = "concatenate"
    lora: LoraConfig = field(default_factory=LoraConfig)
    validation_tokens: int = 16_384


def learn(config: LearnConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient("text-generation", config.gradient, lambda job: _lesson(job, config, provider))


@dataclass(frozen=True, kw_only=True)
class _Text:
    """One source, encoded and packed."""

    shard: Shard
    rows: Rows

    def batch(self, numbers: np.ndarray) -> Batch:
        """The rows of those numbers: "tokens", "targets" and "documents", int64 [B, T]."""
        found = [self.shard.row(self.rows.pieces(int(number)), self.rows.length) for number in numbers]
        names = ("tokens", "targets", "documents")
        return {
            name: torch.from_numpy(np.stack(each)) for name, each in zip(names, zip(*found, strict=True), strict=True)
        }


class Mixture(Source):
    """Rows of several sources in fixed shares."""

    def __init__(self, texts: Mapping[str, _Text], shares: Mapping[str, float], batch: int, seed: int) -> None:
        self.texts = list(texts.values())
        self.names = list(texts)
        lengths = [len(text.rows) for text in self.texts]
        self.order = MixedOrder(lengths, [shares[name] for name in self.names], batch, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        sources, numbers = self.order.share(step, rank, size)
        parts = [(np.flatnonzero(sources == each), each) for each in np.unique(sources)]
        found = [self.texts[each].batch(numbers[places]) for places, each in parts]
        back = np.argsort(np.concatenate([places for places, _ in parts]))
        return {name: torch.cat([part[name] for part in found])[back] for name in found[0]}

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()

    def facts(self) -> dict[str, Any]:
        """What each source gives: tokens, share, and how often a step reads it in the mean."""
        per_step = dict(zip(self.names, self.order.epochs_per_step(), strict=True))
        rows = [text.rows for text in self.texts]
        tokens = [len(text.shard) for text in self.texts]
        found: dict[str, Any] = {
            "tokens": dict(zip(self.names, tokens, strict=True)),
            "epochs_per_step": per_step,
            "tokens dropped in packing": float(np.average([each.dropped for each in rows], weights=tokens)),
            "padding": float(np.average([each.padded for each in rows], weights=tokens)),
            "short documents cut": float(np.average([each.cut for each in rows], weights=tokens)),
        }
        if len(rows) > 1:
            found["share"] = {name: count / PERIOD for name, count in zip(self.names, self.order.counts, strict=True)}
        return found


def _shard(prep: TokenPrep, examples: Split, fingerprint: str, split: str) -> Shard:
    """The shard of a split, from the cache or made now."""
    key = sha256_of_bytes(f"{fingerprint}{split}{prep.tokenizer.to_json()}".encode())
    path: Path = home() / "shards" / key[:32]
    if not (path / "borders.npy").exists():
        write_shard(path, prep.documents(examples), prep.tokenizer.vocab_size)
    return Shard(path, prep.tokenizer.vocab_size)


def _lesson(job: Job, config: LearnConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, TextPrep)
    check_adapters(job, config.lora)
    net = starting_net(job, config.lora)
    context = net.config.context
    batch = config.gradient.batch_size
    source = mixture(job, prep, context, batch, config.packing)

    def loss(nets: Nets, batch: Batch) -> Loss:
        nats_BT = nets["decoder"](batch)["nats"]
        return Loss(nats_BT.sum(), int((batch["targets"] >= 0).sum()))

    return Lesson(
        nets={"decoder": net},
        players=[player("decoder", loss, config.gradient.optim, config.lora)],
        source=source,
        validate=validation(job, prep, "decoder", context, config.validation_tokens),
        assemble=lambda nets: assembled(job, nets, config.lora, provider),
        items=("tokens", batch * context),
        facts=source.facts(),
    )


def mixture(job: Job, prep: TokenPrep, context: int, batch: int, packing: Packing = "concatenate") -> Mixture:
    """The training documents of each source, encoded and packed, in their shares.

    Args:
        job: with the documents.
        prep: the tokenizer.
        context: tokens in a row.
        batch: rows in a step.
        packing: see LearnConfig.

    Raises:
        DataError: when a source does not fill a row.
    """
    pack = best_fit if packing == "best-fit" else concatenated
    texts = {}
    for name, examples in by_source(job.data.split("train")).items():
        shard = _shard(prep, examples, job.data.fingerprint, f"train/{name}" if name else "train")
        if len(shard) <= context:
            raise DataError(
                "There is too little text to learn from.",
                where=f"{job.data.source}, sources.{name}" if name else job.data.source,
                wanted=f"more than one context of {context} tokens",
                got=f"{len(shard)} tokens",
                do="Add text, or lower --set model.context.",
            )
        texts[name] = _Text(shard=shard, rows=pack(shard.borders, context))
    said = [job.data.facts.get("sources", {}).get(name, {}) for name in texts]
    shares = shares_of(
        [each.get("share") for each in said],
        [each.get("epochs") for each in said],
        [len(text.shard) for text in texts.values()],
    )
    return Mixture(texts, dict(zip(texts, shares, strict=True)), batch, job.seed)


def validation(
    job: Job, prep: TokenPrep, role: str, context: int, tokens: int
) -> Callable[[Mapping[str, Model]], Metrics] | None:
    """The function that computes the loss per token and bits per byte on validation documents; None without any.

    Args:
        job: with the documents.
        prep: the tokenizer.
        role: of the network that predicts.
        context: tokens in a row.
        tokens: how many of them are looked at.
    """
    if "validation" not in job.data.splits:
        return None
    examples = job.data.split("validation")
    shard = _shard(prep, examples, job.data.fingerprint, "validation")
    text = _Text(shard=shard, rows=concatenated(shard.borders, context))
    windows = min(len(text.rows), max(1, tokens // context))
    if windows < 1:
        return None
    numbers = np.linspace(0, len(text.rows) - 1, windows).astype(int)
    size = sum(len(e["text"].encode()) for e in examples)
    spelling = prep.spelling_bits(e["text"] for e in examples) / size

    def validate(nets: Mapping[str, Model]) -> Metrics:
        total = 0.0
        for start in range(0, windows, 8):
            rows = {k: v.to(job.device) for k, v in text.batch(numbers[start : start + 8]).items()}
            total += float(nets[role](rows)["nats"].double().sum())
        loss = total / (windows * context)
        return {"loss": loss, "bits per byte": loss / float(np.log(2)) * len(shard) / size + spelling}

    return validate
