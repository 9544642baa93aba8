"""How preferences are learned: a reward model from pairs, and a policy from pairs without one.

**Reward model** (Bradley & Terry 1952; Ouyang et al. 2022, https://arxiv.org/abs/2203.02155, section 3.5): the loss of
a pair is -ln σ(r(chosen) - r(rejected)), with r read at the last token of each answer.

**DPO** (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, equation 7): with π the policy, π₀ the program that
learning started from, and Δ(y) = ln π(y) - ln π₀(y) over the tokens of an answer, -ln σ(β (Δ(chosen) - Δ(rejected))).
With `likelihood` above 0 that share of the chosen answer's -ln π per token is added, which keeps its probability from
falling together with the rejected one's (Pang et al. 2024, https://arxiv.org/abs/2404.19733, equation 1).

π₀ is a second network that never changes: it takes memory and a third of the time, and is in no checkpoint.

The prompt of a pair is read once and both answers after it, and rows hold several pairs (`pairs.as_batch`).

Shapes: R rows · N pairs of a row at most, some of which may be missing · B pairs that are there
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.base.errors import DataError, UsageError
from sw2.base.seed import generator
from sw2.core.data import Split
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets
from sw2.core.model import Batch, Model
from sw2.core.objective import Job, Metrics
from sw2.core.program import Net, Program
from sw2.domains.language.branches import at_places, read
from sw2.domains.language.chat.template import ChatTemplate
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.preferences.pairs import Pair, Pairs, encode
from sw2.domains.language.preferences.scorer import Scorer
from sw2.domains.language.preferences.task import RewardJudge
from sw2.domains.language.prep import TextPrep
from sw2.domains.language.starting import assembled, check_adapters, hold, player, starting_net
from sw2.parts.layers.lora import LoraConfig

__all__ = [
    "DpoConfig",
    "RewardConfig",
    "answer_log_probabilities",
    "dpo_loss",
    "learn_dpo",
    "learn_reward",
    "reward_loss",
]


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """How a reward model is learned.

    Args:
        gradient: batches (in rows of whole pairs), optimiser, precision; see `core.gradient`.
        lora: adapters that learn, with the head, in the place of all weights; see `parts.layers.lora`.
        held: how many of the first blocks of a start stay as they are, and the embedding; as `learn.held` of `chat`.
        validation_pairs: how many pairs of the validation split each evaluation looks at.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    held: int = 0
    validation_pairs: int = 100

    def __post_init__(self) -> None:
        check_ranges("learn", self, {"held": (self.held >= 0, "a whole number of at least 0")})


@dataclass(frozen=True, kw_only=True)
class DpoConfig:
    """How a policy is learned from pairs.

    Args:
        gradient: batches (in rows of whole pairs), optimiser, precision; see `core.gradient`.
        lora: adapters that learn in the place of all weights; see `parts.layers.lora`.
        beta: how hard the policy is held to where it started; smaller lets it go further.
        likelihood: weight of the chosen answer's own loss per token.
        validation_pairs: how many pairs of the validation split each evaluation looks at.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    beta: float = 0.1
    likelihood: float = 0.0
    validation_pairs: int = 100

    def __post_init__(self) -> None:
        allowed = {
            "beta": (self.beta > 0, "a number above 0"),
            "likelihood": (self.likelihood >= 0, "a number of at least 0"),
        }
        check_ranges("learn", self, allowed)


def learn_reward(config: RewardConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective "reward" for the catalogue."""
    return Gradient("reward-modeling", config.gradient, lambda job: _reward_lesson(job, config, provider))


def learn_dpo(config: DpoConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective "dpo" for the catalogue."""
    return Gradient("chat", config.gradient, lambda job: _dpo_lesson(job, config, provider))


# -------------------------------------------------------------------------------------------------------------- losses


def reward_loss(nets: Nets, batch: Batch) -> Loss:
    """The loss of the scorer "scorer" on pairs, as at the top of this file."""
    scores_B2 = at_places(nets["scorer"](read(batch))["scores"], batch["last"])[batch["known"]]
    margin_B = scores_B2[:, 0] - scores_B2[:, 1]
    metrics = {"accuracy": (margin_B > 0).float().mean(), "margin": margin_B.mean()}
    return Loss(-F.logsigmoid(margin_B).sum(), len(margin_B), metrics)


def answer_log_probabilities(net: Callable[[Batch], Mapping[str, Tensor]], batch: Batch) -> Tensor:
    """Return ln p of each answer, float32 [B, 2], of pairs as `pairs.as_batch` has them."""
    nats_RQ = net({**read(batch), "places": batch["places"], "targets": batch["targets"]})["nats"]
    # What both answers begin with stands in the row once and among the places twice. Where there are no more stands 0.
    known_RN = batch["known"]
    sums = nats_RQ.new_zeros(len(nats_RQ), 2 * known_RN.shape[1]).scatter_add(1, batch["answers"], nats_RQ)
    return -sums.view(*known_RN.shape, 2)[known_RN]


def dpo_loss(nets: Nets, batch: Batch, beta: float, likelihood: float = 0.0) -> Loss:
    """The loss of the policy "decoder" beside the reference "start" on pairs, as at the top of this file."""
    with torch.no_grad():
        before_B2 = answer_log_probabilities(nets["start"], batch)
    now_B2 = answer_log_probabilities(nets["decoder"], batch)
    reward_B2 = beta * (now_B2 - before_B2)
    margin_B = reward_B2[:, 0] - reward_B2[:, 1]
    total = -F.logsigmoid(margin_B).sum()
    if likelihood:
        total = total - likelihood * (now_B2[:, 0] / _chosen_tokens(batch)).sum()
    metrics = {
        "accuracy": (margin_B > 0).float().mean(),
        "margin": margin_B.mean(),
        "chosen reward": reward_B2[:, 0].mean(),
    }
    return Loss(total, len(margin_B), metrics)


def _chosen_tokens(batch: Batch) -> Tensor:
    """How many tokens the chosen answer of each pair has, [B]."""
    counted = (batch["targets"] >= 0).long()
    sums = counted.new_zeros(len(counted), 2 * batch["known"].shape[1]).scatter_add(1, batch["answers"], counted)
    return sums[:, ::2][batch["known"]]


# ------------------------------------------------------------------------------------------------------------- lessons


def _pairs(job: Job, split: str, template: ChatTemplate, context: int) -> tuple[list[Pair], list[str]]:
    pairs, left_out = encode(template, job.data.split(split), context)
    if not pairs:
        raise DataError(
            "There is nothing to prefer here.",
            where=f"{job.data.source}, {split}",
            wanted='conversations with "rejected": a worse last answer',
            got=f"{len(left_out)} pairs that are longer than {context} tokens" if left_out else "none",
        )
    return pairs, left_out


def _notes(source: Pairs, left_out: Sequence[str]) -> list[str]:
    notes = [source.note()]
    if left_out:
        named = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
        notes.append(f"{len(left_out)} pairs are left out, because an answer alone is longer than the context: {named}")
    return notes


def _validation(
    job: Job, template: ChatTemplate, shape: Decoder.Config, count: int, loss: Callable[[Nets, Batch], Loss]
) -> Callable[[Mapping[str, Model]], Metrics] | None:
    """The function that computes loss and accuracy on validation pairs; None without any."""
    if "validation" not in job.data.splits or not _has_pairs(job.data.split("validation")):
        return None
    source = Pairs(_pairs(job, "validation", template, shape.context)[0][:count], 1, job.seed, share=not shape.recall)

    def validate(nets: Mapping[str, Model]) -> Metrics:
        total = right = 0.0
        for number in range(len(source.rows)):
            found = loss(nets, {name: tensor.to(job.device) for name, tensor in source.of_rows([number]).items()})
            total += float(found.total)
            right += float(found.metrics["accuracy"]) * found.count
        return {"loss": total / source.pairs, "accuracy": right / source.pairs}

    return validate


def _has_pairs(examples: Split) -> bool:
    return any(example.get("rejected") for example in examples)


def _reward_lesson(job: Job, config: RewardConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, TextPrep)
    parent = job.parents.get("start")
    check_adapters(job, config.lora)
    if config.lora.merge == "off":
        raise UsageError(
            "The adapters of a reward model are added to its weights.",
            where="learn.lora.merge",
            wanted="on",
            got=config.lora.merge,
        )
    if parent is not None and "scorer" in parent.nets:
        before = parent.nets["scorer"].module
        assert isinstance(before, Scorer)
        net = Scorer.begin(before.decoder)
        net.load_state_dict(before.state_dict())
    else:
        net = Scorer.begin(starting_net(replace(job, model_config=job.model_config.decoder)))
        # A head of exact zeros gives the decoder no gradient in the first step; this much is lost in the noise.
        with torch.no_grad():
            net.head.weight.normal_(0.0, 1e-3, generator=generator(job.seed, "head"))
    net.adapt(config.lora, generator(job.seed, "adapters"))
    hold(net.decoder, config.held, job)
    template = ChatTemplate.of(prep)
    shape = net.config.decoder
    pairs, left_out = _pairs(job, "train", template, shape.context)
    one_shape = job.choices.get("compile") == "on"
    source = Pairs(pairs, config.gradient.batch_size, job.seed, share=not shape.recall, one_shape=one_shape)
    return Lesson(
        nets={"scorer": net},
        players=[player("scorer", reward_loss, config.gradient.optim, config.lora, held=net.is_held)],
        source=source,
        validate=_validation(job, template, shape, config.validation_pairs, reward_loss),
        assemble=lambda nets: Program.assemble(
            task=job.task,
            runtime=RewardJudge,
            nets={"scorer": Net("scorer", _plain(nets["scorer"]))},
            prep=prep,
            provider=provider,
        ),
        items=("tokens", config.gradient.batch_size * source.length),
        notes=_notes(source, left_out),
    )


def _plain(net: Model) -> Scorer:
    assert isinstance(net, Scorer)
    return net.merged()


def _dpo_lesson(job: Job, config: DpoConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, TextPrep)
    if "start" not in job.parents:
        raise UsageError(
            "Preferences are learned by a program that can already answer.",
            where="--objective dpo",
            wanted="--from PROGRAM, one for chat",
            got="no program to start from",
            do="sw2 train chat DATA, and then this with --from its folder.",
        )
    check_adapters(job, config.lora)
    net = starting_net(job, config.lora)
    template = ChatTemplate.of(prep)
    pairs, left_out = _pairs(job, "train", template, net.config.context)
    one_shape = job.choices.get("compile") == "on"
    source = Pairs(pairs, config.gradient.batch_size, job.seed, share=not net.config.recall, one_shape=one_shape)

    def loss(nets: Nets, batch: Batch) -> Loss:
        return dpo_loss(nets, batch, config.beta, config.likelihood)

    return Lesson(
        nets={"decoder": net, "start": copy.deepcopy(net)},
        players=[player("decoder", loss, config.gradient.optim, config.lora)],
        source=source,
        validate=_validation(job, template, net.config, config.validation_pairs, loss),
        assemble=lambda nets: assembled(job, nets, config.lora, provider),
        items=("tokens", config.gradient.batch_size * source.length),
        notes=_notes(source, left_out),
    )
