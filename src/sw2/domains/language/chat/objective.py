"""How answering is learned: the next token, where the assistant wrote it (supervised fine-tuning).

Shapes: B rows, T tokens, P places that are learned at.

Every conversation is encoded once. Rows are filled with whole conversations that do not see each other, the longest
first and each into the row with the least room that still takes it; only what is longer than the context is cut, which
is counted and named. A row is as long as the longest conversation needs, at most the context. Logits are computed where
something is learned and nowhere else. The loss is the sum of -ln p over those tokens.

What conversations have in common before their first answers (instructions, tools, the text that is asked about) is read
once for up to four of them: the row branches after it, as those of `branches` do, and numbers and gradients are what
rows without branches would give. A decoder with recall reads every conversation by itself (decision 0015).

What it does not do: weights of conversations or of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

import numpy as np
import torch

from sw2.base.config import check_ranges
from sw2.base.errors import DataError, UsageError
from sw2.core.data import Split
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets, Source
from sw2.core.model import Batch, Model
from sw2.core.objective import Job, Metrics
from sw2.domains.language.branches import Group, Text, learned, packed
from sw2.domains.language.chat.template import ChatTemplate
from sw2.domains.language.prep import TextPrep
from sw2.domains.language.starting import assembled, check_adapters, hold, player, starting_net
from sw2.parts.data.order import ShuffledOrder
from sw2.parts.data.packing import alike, shared_rows
from sw2.parts.layers.lora import LoraConfig

__all__ = ["Conversations", "LearnConfig", "encode", "learn", "next_answer_loss"]

_STEP: Final = 16
"""Rows are a multiple of this long, so that shapes are few."""
_NOTHING: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How answering is learned.

    Args:
        gradient: batches (in rows), optimiser, precision; see `core.gradient`.
        lora: adapters that learn in the place of all weights; see `parts.layers.lora`.
        held: how many of the first blocks of a start stay as they are, and what they read of the embedding; a step has
            then that much less to compute (decision 0019).
        row: how many tokens a row has; 0 for as many as the longest conversation needs, at most the context.
        validation_tokens: how many tokens of the validation conversations each evaluation looks at.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    held: int = 0
    row: int = 0
    validation_tokens: int = 16_384

    def __post_init__(self) -> None:
        whole = "a whole number of at least 0"
        check_ranges("learn", self, {"held": (self.held >= 0, whole), "row": (self.row >= 0, whole)})


def learn(config: LearnConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient("chat", config.gradient, lambda job: _lesson(job, config, provider))


@final
@dataclass(frozen=True)
class Conversations:
    """Encoded conversations, one after the other.

    Args:
        tokens: of all of them, int32 [N].
        written: whether the assistant wrote each, bool [N].
        borders: where each begins, and the end: int64 [conversations + 1].
        names: where each stands in the data.
        rewritten: how many conversations take several rows because the template rewrites earlier turns.
    """

    tokens: np.ndarray
    written: np.ndarray
    borders: np.ndarray
    names: Sequence[str]
    rewritten: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def one(self, number: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """A conversation of at most `length` + 1 tokens: those before the last, and targets, -1 where none is."""
        part = slice(self.borders[number], min(self.borders[number + 1], self.borders[number] + length + 1))
        tokens, written = self.tokens[part].astype(np.int64), self.written[part]
        return tokens[:-1], np.where(written[1:], tokens[1:], -1)


def encode(template: ChatTemplate, examples: Split) -> Conversations:
    """Render and encode every example ("messages", perhaps "tools").

    Raises:
        UsageError: the template cannot be learned with; see `ChatTemplate.marked`.
    """
    tokens: list[np.ndarray] = []
    written: list[np.ndarray] = []
    names: list[str] = []
    rewritten = 0
    for number, example in enumerate(examples):
        rows = template.marked(example["messages"], example.get("tools") or ())
        rewritten += len(rows) > 1
        for row in rows:
            tokens.append(np.asarray(row.tokens, np.int32))
            written.append(np.asarray(row.written, bool))
            names.append(str(example.get("where", f"number {number}")))
    return Conversations(
        np.concatenate(tokens) if tokens else np.zeros(0, np.int32),
        np.concatenate(written) if written else np.zeros(0, bool),
        np.cumsum([0, *map(len, tokens)]),
        names,
        rewritten,
    )


class _Rows(Source):
    """Rows of packed conversations, shuffled.

    Args:
        talks: what is packed.
        length: of a row.
        batch: rows of a step.
        seed: of their order.
        one_shape: whether all batches have as many places, as a compiler wants it.
        share: whether what conversations have in common at first is read once.
    """

    def __init__(
        self, talks: Conversations, length: int, batch: int, seed: int, *, one_shape: bool, share: bool
    ) -> None:
        self.talks, self.length, self.one_shape = talks, length, one_shape
        sizes = np.minimum(np.diff(talks.borders) - 1, length)
        places = [np.flatnonzero(talks.one(number, length)[1] >= 0) for number in range(len(talks))]
        # What is cut before anything is learned from it teaches nothing.
        self.used = [number for number in range(len(talks)) if len(places[number])]
        # Nothing that several have in common is learned: it would count for one of them only.
        beginnings = [talks.one(number, length)[0][: places[number][0]] if share else _NOTHING for number in self.used]
        together = alike(beginnings, sizes[self.used], length)
        groups = [replace(group, members=tuple(self.used[each] for each in group.members)) for group in together]
        self.branching = len(groups) < len(self.used)
        self.read = sum(group.size for group in groups)
        sizes_of_groups = np.array([group.size for group in groups], np.int64)
        self.rows = [[groups[number] for number in row] for row in shared_rows(sizes_of_groups, length)]
        self.places = [sum(len(places[talk]) for group in row for talk in group.members) for row in self.rows]
        self.order = ShuffledOrder(max(1, len(self.rows)), batch, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        del nets
        return self.of_rows(self.order.share(step, rank, size))

    def of_rows(self, numbers: Sequence[int] | np.ndarray) -> Batch:
        """These rows: "tokens" and "documents" int64 [B, T], where conversations share beginnings "branches" and
        "positions" [B, T] (see `Decoder.forward`), "places" and "targets" int64 [B, P].
        """
        rows = [
            [Group([Text(*self.talks.one(talk, self.length)) for talk in each.members], each.common) for each in row]
            for row in (self.rows[int(number)] for number in numbers)
        ]
        arrays, where = packed(rows, self.length)
        found = learned(rows, where, max(self.places) if self.one_shape else None)
        arrays |= {name: found[name] for name in ("places", "targets")}
        if not self.branching:
            del arrays["branches"], arrays["positions"]
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()

    def notes(self) -> list[str]:
        """What a user should know of how the conversations were packed."""
        talks, length = self.talks, self.length
        sizes = np.diff(talks.borders) - 1
        notes = [
            f"{len(self.used)} conversations of {sizes.mean():.0f} tokens on average, {talks.written.mean():.0%} of "
            f"them learned, in {len(self.rows)} rows of {length} tokens; "
            f"{1 - self.read / (len(self.rows) * length):.1%} of the room is left empty"
        ]
        if self.branching:
            used = np.minimum(sizes[self.used], length).sum()
            notes.append(f"what several begin with is read once: {self.read / used:.0%} of their tokens are read")
        long = np.flatnonzero(sizes > length)
        for numbers, why in (
            (long, f"longer than a row of {length} tokens, and cut there"),
            (sorted(set(range(len(talks))) - set(self.used)), "cut before any answer, and teach nothing"),
        ):
            if len(numbers):
                named = ", ".join(f"{talks.names[n]} ({sizes[n]} tokens)" for n in numbers[:5])
                notes.append(f"{len(numbers)} conversations are {why}: {named}{', …' if len(numbers) > 5 else ''}")
        if talks.rewritten:
            notes.append(
                f"the chat template rewrites earlier turns of {talks.rewritten} conversations, so that each answer of "
                "theirs is learned in a row of its own"
            )
        return notes


def next_answer_loss(nets: Nets, batch: Batch) -> Loss:
    """-ln p of what the assistant wrote, of the net "decoder"."""
    return Loss(nets["decoder"](batch)["nats"].sum(), int((batch["targets"] >= 0).sum()))


def _lesson(job: Job, config: LearnConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, TextPrep)
    check_adapters(job, config.lora)
    net = starting_net(job, config.lora)
    hold(net, config.held, job)
    template = ChatTemplate.of(prep)
    talks = encode(template, job.data.split("train"))
    if config.row > net.config.context:
        raise UsageError(
            "A row is longer than the model can read.",
            wanted=f"learn.row of at most {net.config.context}",
            got=config.row,
        )
    length = config.row or _row_length(talks, net.config.context)
    batch = config.gradient.batch_size
    source = _Rows(
        talks, length, batch, job.seed, one_shape=job.choices.get("compile") == "on", share=not net.config.recall
    )
    if not source.used:
        raise DataError(
            "Nothing can be learned from these conversations.",
            where=job.data.source,
            wanted=f"an answer that begins within {length} tokens",
            got=f"none in {len(talks)} conversations",
            do="Shorten them, or raise --set model.context.",
        )
    return Lesson(
        nets={"decoder": net},
        players=[player("decoder", next_answer_loss, config.gradient.optim, config.lora, held=net.is_held)],
        source=source,
        validate=_validation(job, template, length, config, share=not net.config.recall),
        assemble=lambda nets: assembled(job, nets, config.lora, provider),
        items=("tokens", batch * length),
        notes=source.notes(),
    )


def _row_length(talks: Conversations, context: int) -> int:
    longest = int((np.diff(talks.borders) - 1).max())
    return min(context, -(-longest // _STEP) * _STEP)


def _validation(
    job: Job, template: ChatTemplate, length: int, config: LearnConfig, *, share: bool
) -> Callable[[Mapping[str, Model]], Metrics] | None:
    """The function that computes the loss per token of validation answers; None without any."""
    if "validation" not in job.data.splits:
        return None
    talks = encode(template, job.data.split("validation"))
    source = _Rows(talks, length, 1, job.seed, one_shape=False, share=share)
    if not source.used:
        return None
    count = min(len(source.rows), max(1, config.validation_tokens // length))
    numbers = np.linspace(0, len(source.rows) - 1, count).astype(int)

    def validate(nets: Mapping[str, Model]) -> Metrics:
        total = counted = 0.0
        for start in range(0, count, 4):
            rows = source.of_rows(numbers[start : start + 4])
            loss = next_answer_loss(nets, {name: tensor.to(job.device) for name, tensor in rows.items()})
            total, counted = total + float(loss.total), counted + loss.count
        return {"loss": total / counted}

    return validate
