"""Rollouts: what the policy answers as it is now, as a batch to learn from.

    step → prompts x group → answers (the batching engine) → what each is worth → log-probabilities → advantages

A batch is one of groups (`language.branches`): a prompt is read once, and the answers to it do not see each other.

Shapes: B answers, to N prompts G each, T tokens, P places that were written.

Answers are drawn at temperature 1 and with nothing cut off, because the gradient of a policy is that of what it draws;
each by a seed of its own from (seed, step, prompt, answer), so a run that resumes draws the same ones and nothing of
them is saved. Tools run; what a tool says is read and not learned.

The log-probabilities of what was drawn are computed once more, by the learning network in torch, in the precision that
it learns in. The engine's kernels sum in another order and may hold other bits; a ratio against their numbers would
differ from 1 before anything was learned, and clipping would act on rounding.

What it does not do: customers that answer back (one question, one answer), networks sharded over processes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from sw2.base.config import check_ranges
from sw2.base.errors import UsageError
from sw2.base.seed import derive
from sw2.core.data import Example, Split
from sw2.core.distributed import world
from sw2.core.gradient import Nets, Source, autocast
from sw2.core.model import Batch, Model
from sw2.core.objective import Job, Metrics
from sw2.domains.language.adapters import as_spoken
from sw2.domains.language.branches import Text, answer_nats, at_places, read
from sw2.domains.language.branches import as_batch as branching
from sw2.domains.language.chat.judging import has_customer, prompt_of
from sw2.domains.language.chat.template import ChatTemplate
from sw2.domains.language.chat.writer import ChatWriter, Reply
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import TextPrep
from sw2.domains.language.reinforcement.guards import Guards, repetition
from sw2.domains.language.reinforcement.rewards import Rewards, RewardsConfig, Worth
from sw2.parts.data.order import ShuffledOrder
from sw2.parts.decoding.sampling import Sampling

__all__ = [
    "Estimate",
    "Rollouts",
    "RolloutsConfig",
    "as_batch",
    "log_probabilities",
    "prompts",
    "telling",
    "validation",
]

_AT_ONCE: Final = 8
"""Answers that log-probabilities are computed of at once."""

Estimate = Callable[[Nets, Batch, Tensor], Batch]
"""From the networks, a batch and its rewards [N, G] (NaN where there is none) to "advantages" [N, G, P] and what else
the losses need."""


@dataclass(frozen=True, kw_only=True)
class RolloutsConfig:
    """What is asked, and how much may be answered.

    Args:
        group: answers to each prompt.
        max_tokens: the most tokens of a message.
        validation_prompts: how many prompts of the validation split each evaluation answers.
    """

    group: int = 8
    max_tokens: int = 128
    validation_prompts: int = 32

    def __post_init__(self) -> None:
        allowed = {
            name: (getattr(self, name) >= 1, "a whole number of at least 1")
            for name in ("group", "max_tokens", "validation_prompts")
        }
        check_ranges("learn.rollouts", self, allowed)


def prompts(
    job: Job, split: str, context: int, config: RolloutsConfig, rewards: RewardsConfig
) -> tuple[list[Example], list[str]]:
    """The examples of a split that can be asked and rewarded, and a sentence on each kind that cannot."""
    assert isinstance(job.prep, TextPrep)
    template = ChatTemplate.of(job.prep)
    kept: list[Example] = []
    left: dict[str, list[str]] = {}
    ruled = rewards.check and not (rewards.program or rewards.function)
    for number, example in enumerate(job.data.split(split)):
        prompt = prompt_of(example)
        why = ""
        if ruled and not example.get("check"):
            why = 'have no rule ("check")'
        elif example.get("check") and has_customer(example):
            why = "are held with a customer, and one answer is no whole conversation"
        elif not prompt["messages"]:
            why = "ask nothing"
        elif len(template.tokens(prompt["messages"], prompt["tools"])) + config.max_tokens > context:
            why = f"leave no room for {config.max_tokens} tokens of answer in {context}"
        if why:
            left.setdefault(why, []).append(str(example.get("where", f"number {number}")))
        else:
            kept.append(example)
    notes = [
        f"{len(names)} prompts {why}, and are left out: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        for why, names in left.items()
    ]
    return kept, notes


def log_probabilities(net: Callable[[Batch], Mapping[str, Tensor]], batch: Batch) -> Tensor:
    """Return ln p of what was written, float32 [N, G, P]; 0 where there is nothing."""
    return -answer_nats(net, batch)


def as_batch(replies: Sequence[Reply], group: int, context: int, *, share: bool) -> Batch:
    """Answers as groups of those to one prompt, as far as the context goes; see `branches.as_batch`."""
    texts = []
    for reply in replies:
        tokens = np.asarray(reply.tokens[: context + 1], np.int64)
        written = np.asarray(reply.written[: context + 1], bool)
        texts.append(Text(tokens[:-1], np.where(written[1:], tokens[1:], -1)))
    return branching([texts[first : first + group] for first in range(0, len(texts), group)], share=share)


@final
class Rollouts(Source):
    """Batches of answers by the networks "decoder" (the policy) and "start".

    Args:
        job: see `core.objective`.
        examples: what is asked; see `prompts`.
        answers: how many a step has, over all processes.
        config: see RolloutsConfig.
        rewards: what answers are worth.
        guards: when to stop.
        estimate: makes advantages.
        silent: whether groups without advantages are computed with too: whatever else the loss has moves them.

    Raises:
        UsageError: the answers are not whole groups in each process.
    """

    def __init__(
        self,
        job: Job,
        examples: Split,
        answers: int,
        config: RolloutsConfig,
        rewards: Rewards,
        guards: Guards,
        estimate: Estimate,
        *,
        silent: bool = True,
    ) -> None:
        whole = config.group * world().size
        if answers % whole:
            raise UsageError(
                "The answers of a step are not whole groups.",
                where="learn.gradient.batch_size",
                wanted=f"a multiple of {whole} (learn.rollouts.group answers to a prompt, in each process)",
                got=answers,
            )
        self._job, self._examples, self._config = job, examples, config
        self._rewards, self._guards, self._estimate, self._silent = rewards, guards, estimate, silent
        self._order = ShuffledOrder(len(examples), answers // config.group, job.seed)
        self._metrics: Metrics = {}

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        group = self._config.group
        asked: list[Example] = []
        samplings: list[Sampling] = []
        for place, number in enumerate(self._order.share(step, rank, size)):
            for answer in range(group):
                asked.append(self._examples[int(number)])
                seed = derive(self._job.seed, "rollout", step, rank + place * size, answer)
                samplings.append(Sampling(seed=seed))
        decoder = nets["decoder"]
        assert isinstance(decoder, Decoder)
        modes = {role: net.training for role, net in nets.items()}
        for net in nets.values():
            net.eval()
        try:
            replies = _answers(decoder, self._job, asked, samplings, self._config.max_tokens)
            worths = self._rewards.of(asked, [reply.messages for reply in replies])
            with torch.no_grad():
                return self._learned_from(nets, replies, worths)
        finally:
            for role, net in nets.items():
                net.train(modes[role])

    def _learned_from(self, nets: Mapping[str, Model], replies: Sequence[Reply], worths: Sequence[Worth]) -> Batch:
        decoder = nets["decoder"]
        assert isinstance(decoder, Decoder)
        shape, group = decoder.config, self._config.group
        rows = dict(as_batch(replies, group, shape.context, share=not shape.recall))
        rewards_NG = torch.tensor([worth.reward for worth in worths], dtype=torch.float32).view(-1, group)
        rows["targets"] = rows["targets"].masked_fill(rewards_NG.isnan()[..., None], -1)
        parts = []
        at_once = max(1, _AT_ONCE // group)
        for begin in range(0, len(rewards_NG), at_once):
            part = {name: t[begin : begin + at_once].to(self._job.device) for name, t in rows.items()}
            with autocast(self._job):
                for name, role in (("old", "decoder"), ("start", "start")):
                    part[name] = log_probabilities(nets[role], part)
                if "critic" in nets:
                    part["values"] = at_places(nets["critic"](read(part))["scores"], part["places"])
            parts.append(part)
        batch = {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}
        self._look(batch, replies, worths)
        counted_N = (batch["targets"] >= 0).flatten(1).sum(1)
        whole = {**batch, **self._estimate(nets, batch, rewards_NG), "counted": counted_N}
        return whole if self._silent else telling(whole)

    def _look(self, batch: Batch, replies: Sequence[Reply], worths: Sequence[Worth]) -> None:
        """Metrics of these answers, and whether they speak against going on."""
        known = [worth for worth in worths if not np.isnan(worth.reward)]
        ruled = [worth.passed for worth in worths if worth.passed is not None]
        written = [[t for t, mine in zip(reply.tokens, reply.written, strict=True) if mine] for reply in replies]
        further = batch["start"] - batch["old"]
        distance = float((further.exp() - further - 1).double().sum())
        sums = [
            len(worths), len(known), len(ruled), sum(worth.reward for worth in known), float(sum(ruled)), distance,
            sum(map(len, written)), sum(map(repetition, written)),
        ]  # fmt: skip
        answers, rewarded, checked, reward, passed, distance, tokens, repeated = world().mean(sums)
        failed = 1 - rewarded / answers
        self._rewards.refuse_failures(worths, failed)
        self._metrics = {
            "reward": reward / rewarded,
            "kl": distance / rewarded,
            "length": tokens / answers,
            "repetition": repeated / answers,
            "failed": failed,
            **({"passed": passed / checked} if checked else {}),
        }
        self._guards.look(self._metrics["kl"], self._metrics["length"], self._metrics["repetition"])

    def metrics(self) -> Metrics:
        return self._metrics

    def steps_per_epoch(self) -> float:
        return self._order.steps_per_epoch()

    def state(self) -> Mapping[str, Any]:
        return self._guards.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self._guards.restore(state)


def telling(batch: Batch) -> Batch:
    """The groups that say which way to go, without those whose advantages are 0, such as answers that are all right.

    The first of what is left also stands for the tokens of the others, so that the mean over tokens stays what it was.
    One group is left in any case, without targets where it says nothing.
    """
    tells_N = (batch["advantages"] != 0).flatten(1).any(1)
    left_out = batch["counted"][~tells_N].sum()
    if tells_N.any():
        kept = {name: tensor[tells_N] for name, tensor in batch.items()}
        kept["counted"][0] += left_out
        return kept
    kept = {name: tensor[:1].clone() for name, tensor in batch.items()}
    kept["targets"].fill_(-1)
    kept["counted"][0] = left_out
    return kept


def _answers(
    net: Decoder, job: Job, asked: Sequence[Example], samplings: Sequence[Sampling], max_tokens: int
) -> list[Reply]:
    """By the network as it is; a fresh engine each time, so that nothing but the weights has a say.

    What learns in bf16 answers in it too, which reads half as much for each token. Adapters do not: what they add is
    computed apart while learning, and rounding it away with the weights' last bits would leave the start speaking.
    """
    assert isinstance(job.prep, TextPrep)
    speaker = as_spoken(net)
    if speaker is net and job.choices["precision"] == "bf16":
        speaker = copy.deepcopy(net).bfloat16()
    writer = ChatWriter({"decoder": speaker}, job.prep, {})
    with torch.autocast(job.device.type, enabled=False):  # programs write without it
        return writer.reply_many([prompt_of(example) for example in asked], samplings, max_tokens)


def validation(
    job: Job, context: int, config: RolloutsConfig, rewards: Rewards
) -> Callable[[Mapping[str, Model]], Metrics] | None:
    """The function that answers validation prompts with the likeliest tokens: "loss" is the mean reward, negative."""
    if "validation" not in job.data.splits:
        return None
    examples = prompts(job, "validation", context, config, rewards.config)[0][: config.validation_prompts]
    if not examples:
        return None
    cold = [Sampling(temperature=0.0)] * len(examples)

    def validate(nets: Mapping[str, Model]) -> Metrics:
        net = nets["decoder"]
        assert isinstance(net, Decoder)
        replies = _answers(net, job, examples, cold, config.max_tokens)
        worths = rewards.of(examples, [reply.messages for reply in replies])
        known = [worth.reward for worth in worths if not np.isnan(worth.reward)]
        rewards.refuse_failures(worths, 1 - len(known) / len(worths))
        reward = float(np.mean(known))
        passed = [worth.passed for worth in worths if worth.passed is not None]
        lengths = [sum(reply.written) for reply in replies]
        return {
            "loss": -reward,
            "reward": reward,
            "length": float(np.mean(lengths)),
            **({"passed": float(np.mean(passed))} if passed else {}),
        }

    return validate
