"""How a policy is learned from what its answers are worth: GRPO, and PPO with a critic.

Shapes: N prompts, G answers to each, P places that were written; B rows of any answers.

Both lower, per written token, the clipped surrogate of Schulman et al. 2017 (https://arxiv.org/abs/1707.06347, equation
7), with ρ = π(token) / π_old(token) and A its advantage:

    -min(ρ A, clip(ρ, 1 - ε, 1 + ε) A)

**GRPO** (Shao et al. 2024, https://arxiv.org/abs/2402.03300, equations 3 and 4): A of all tokens of an answer is its
reward less the mean of its group's, over their standard deviation; β k3 is added per token, with k3 = q - ln q - 1 and
q = π_start / π. The sum over tokens is divided by the number of tokens of the batch, not first by each answer's own
length, which would make long wrong answers cheap (Liu et al. 2025, https://arxiv.org/abs/2503.20783, section 3.1; they
also leave the standard deviation out: `deviation=off`). With β = 0 answers of groups that are all worth the same change
nothing, and are not computed with; they still count as tokens of the batch.

**PPO** as for InstructGPT (Ouyang et al. 2022, https://arxiv.org/abs/2203.02155, section 3.5): the reward of a token is
-β ln(π_old / π_start), that of the last one with the answer's worth added; advantages by generalised advantage
estimation (Schulman et al. 2015, https://arxiv.org/abs/1506.02438, equation 16) with the values of a critic, whitened
over the tokens of the step. The critic is a decoder with one number as its head, begun from the policy, that learns
½ (V - A - V_old)² in turn. Time runs over written tokens; what a tool said takes none.

π_start is a second network that never changes, and is in no checkpoint; the critic is one more that does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sw2.base.config import check_ranges
from sw2.base.errors import DataError, UsageError
from sw2.base.seed import generator
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets, Player
from sw2.core.model import Batch, Model
from sw2.core.objective import Job
from sw2.domains.language.branches import at_places, read
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.preferences.scorer import Scorer
from sw2.domains.language.prep import TextPrep
from sw2.domains.language.reinforcement.guards import Guards, GuardsConfig
from sw2.domains.language.reinforcement.rewards import Rewards, RewardsConfig
from sw2.domains.language.reinforcement.rollouts import (
    Estimate,
    Rollouts,
    RolloutsConfig,
    log_probabilities,
    prompts,
    validation,
)
from sw2.domains.language.starting import assembled, check_adapters, player, starting_net
from sw2.parts.layers.lora import LoraConfig

__all__ = [
    "GrpoConfig",
    "PpoConfig",
    "critic_loss",
    "generalised_advantages",
    "group_advantages",
    "learn_grpo",
    "learn_ppo",
    "policy_loss",
]


@dataclass(frozen=True, kw_only=True)
class GrpoConfig:
    """How a policy is learned from groups of answers.

    Args:
        gradient: batches (in answers), optimiser, precision; see `core.gradient`.
        lora: adapters that learn in the place of all weights; see `parts.layers.lora`.
        rollouts: what is asked.
        reward: what an answer is worth.
        guards: when to stop.
        clip: ε, how far a token's probability counts in a step.
        kl: β, how hard each token is held to the start.
        passes: how often a step's answers are learned from.
        deviation: whether a group's advantages are divided by their standard deviation.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)
    reward: RewardsConfig = field(default_factory=RewardsConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)
    clip: float = 0.2
    kl: float = 0.04
    passes: int = 1
    deviation: Literal["on", "off"] = "on"

    def __post_init__(self) -> None:
        check_ranges("learn", self, _common(self))
        if self.rollouts.group < 2:
            raise UsageError(
                "An answer is compared with others of its group.",
                where="learn.rollouts.group",
                wanted="at least 2",
                got=self.rollouts.group,
            )


@dataclass(frozen=True, kw_only=True)
class PpoConfig:
    """How a policy is learned beside a critic.

    Args:
        gradient: batches (in answers), optimiser (of policy and critic), precision; see `core.gradient`.
        lora: adapters that learn (of policy and critic) in the place of all weights; see `parts.layers.lora`.
        rollouts: what is asked.
        reward: what an answer is worth.
        guards: when to stop.
        clip: ε, how far a token's probability counts in a step.
        kl: β, what a nat away from the start costs.
        passes: how often a step's answers are learned from, by the policy and by the critic.
        discount: γ, what a reward is worth one token earlier.
        smoothing: λ, how far advantages look beyond the critic: 0 one token, 1 to the end.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)
    reward: RewardsConfig = field(default_factory=RewardsConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)
    clip: float = 0.2
    kl: float = 0.02
    passes: int = 2
    discount: float = 1.0
    smoothing: float = 0.95

    def __post_init__(self) -> None:
        allowed = {name: (0 <= getattr(self, name) <= 1, "a number from 0 to 1") for name in ("discount", "smoothing")}
        check_ranges("learn", self, {**_common(self), **allowed})


def _common(config: GrpoConfig | PpoConfig) -> dict[str, tuple[bool, str]]:
    return {
        "clip": (0 < config.clip < 1, "a number between 0 and 1"),
        "kl": (config.kl >= 0, "a number of at least 0"),
        "passes": (config.passes >= 1, "a whole number of at least 1"),
    }


def learn_grpo(config: GrpoConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective "grpo" for the catalogue."""
    return Gradient("chat", config.gradient, lambda job: _grpo_lesson(job, config, provider))


def learn_ppo(config: PpoConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective "ppo" for the catalogue."""
    return Gradient("chat", config.gradient, lambda job: _ppo_lesson(job, config, provider))


# ---------------------------------------------------------------------------------------------------------- advantages


def group_advantages(rewards_NG: Tensor, *, deviation: bool) -> Tensor:
    """Advantages within groups, float32 [N, G].

    Args:
        rewards_NG: what each answer is worth, NaN where nobody knows: such an answer counts in no mean and gets 0.
        deviation: whether they are divided by the group's standard deviation.

    >>> group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0]]), deviation=False)
    tensor([[ 0.5000, -0.5000, -0.5000,  0.5000],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """
    known_NG = ~rewards_NG.isnan()
    count_N1 = known_NG.sum(1, keepdim=True).clamp(min=1)
    mean_N1 = rewards_NG.nan_to_num().sum(1, keepdim=True) / count_N1
    highest_N1 = rewards_NG.nan_to_num(-torch.inf).amax(1, keepdim=True)
    lowest_N1 = rewards_NG.nan_to_num(torch.inf).amin(1, keepdim=True)
    # Of equals the mean may be another number by rounding, which the deviation would make large.
    counts_NG = known_NG & (highest_N1 > lowest_N1)
    centred_NG = torch.where(counts_NG, rewards_NG.nan_to_num() - mean_N1, 0.0)
    if not deviation:
        return centred_NG
    # The small number keeps rounding in a group of equals from looking like a difference.
    return centred_NG / ((centred_NG.square().sum(1, keepdim=True) / count_N1).sqrt() + 1e-4)


def generalised_advantages(
    rewards_BP: Tensor, values_BP: Tensor, known_BP: Tensor, discount: float, smoothing: float
) -> Tensor:
    """Advantages by δ_t = r_t + γ V_{t+1} - V_t and A_t = δ_t + γ λ A_{t+1}, float32 [B, P]; 0 where nothing is known.

    Args:
        rewards_BP: of each token.
        values_BP: the critic's expectation before each token; nothing is expected after the last.
        known_BP: where tokens are; in each row they come first.
        discount: γ.
        smoothing: λ.
    """
    found_BP = torch.zeros_like(values_BP)
    later_B, next_value_B = torch.zeros_like(values_BP[:, 0]), torch.zeros_like(values_BP[:, 0])
    for place in reversed(range(values_BP.shape[1])):
        delta_B = rewards_BP[:, place] + discount * next_value_B - values_BP[:, place]
        later_B = torch.where(known_BP[:, place], delta_B + discount * smoothing * later_B, 0.0)
        next_value_B = torch.where(known_BP[:, place], values_BP[:, place], 0.0)
        found_BP[:, place] = later_B
    return found_BP


def _of_groups(config: GrpoConfig) -> Estimate:
    def estimate(nets: Nets, batch: Batch, rewards_NG: Tensor) -> Batch:
        del nets
        advantages_NG = group_advantages(rewards_NG, deviation=config.deviation == "on")
        return {"advantages": advantages_NG[..., None].expand_as(batch["old"]).contiguous()}

    return estimate


def _of_critic(config: PpoConfig) -> Estimate:
    def estimate(nets: Nets, batch: Batch, rewards_NG: Tensor) -> Batch:
        del nets
        known_BP, old_BP, start_BP, values_BP = (
            each.flatten(0, 1) for each in (batch["targets"] >= 0, batch["old"], batch["start"], batch["values"])
        )
        rewards_BP = -config.kl * (old_BP - start_BP)
        last_B = (known_BP.sum(1) - 1).clamp(min=0)
        # What has no reward has no targets either, so its row counts nowhere.
        rewards_BP[torch.arange(len(last_B)), last_B] += rewards_NG.flatten().nan_to_num()
        raw_BP = generalised_advantages(rewards_BP, values_BP, known_BP, config.discount, config.smoothing)
        known = raw_BP[known_BP]
        white_BP = torch.where(known_BP, (raw_BP - known.mean()) / (known.std(unbiased=False) + 1e-4), 0.0)
        found = {"advantages": white_BP, "returns": raw_BP + values_BP}
        return {name: each_BP.view_as(batch["old"]) for name, each_BP in found.items()}

    return estimate


# -------------------------------------------------------------------------------------------------------------- losses


def policy_loss(nets: Nets, batch: Batch, clip: float, kl: float) -> Loss:
    """The loss of the policy "decoder", per written token, as at the top of this file.

    Args:
        nets: "decoder".
        batch: as `rollouts.as_batch`, with "old", "start" (log-probabilities) and "advantages" [N, G, P]; and
            "counted" [N], how many tokens each row stands for.
        clip: ε.
        kl: β of the k3 term; 0 where the reward holds the distance already.
    """
    known_NGP = batch["targets"] >= 0
    now_NGP = log_probabilities(nets["decoder"], batch)
    ratio_NGP = (now_NGP - batch["old"]).exp()
    clipped_NGP = ratio_NGP.clamp(1 - clip, 1 + clip)
    advantages_NGP = batch["advantages"]
    losses_NGP = -torch.minimum(ratio_NGP * advantages_NGP, clipped_NGP * advantages_NGP)
    if kl:
        further_NGP = batch["start"] - now_NGP
        losses_NGP = losses_NGP + kl * (further_NGP.exp() - further_NGP - 1)
    count = int(batch["counted"].sum())
    outside = ((ratio_NGP.detach() - 1).abs() > clip) & known_NGP
    return Loss((losses_NGP * known_NGP).sum(), count, {"clipped": outside.sum() / max(1, count)})


def critic_loss(nets: Nets, batch: Batch) -> Loss:
    """½ (V - return)² of the net "critic", per written token; "returns" [N, G, P] in the batch."""
    known_NGP = batch["targets"] >= 0
    values_NGP = at_places(nets["critic"](read(batch))["scores"], batch["places"])
    wrong_NGP = (values_NGP - batch["returns"]).square() * known_NGP
    return Loss(0.5 * wrong_NGP.sum(), int(known_NGP.sum()))


# ------------------------------------------------------------------------------------------------------------- lessons


def _policy(job: Job, name: str, lora: LoraConfig) -> Decoder:
    if "start" not in job.parents:
        raise UsageError(
            "What answers are worth is learned by a program that can already answer.",
            where=f"--objective {name}",
            wanted="--from PROGRAM, one for chat",
            got="no program to start from",
            do="sw2 train chat DATA, and then this with --from its folder.",
        )
    check_adapters(job, lora)
    return starting_net(job, lora)


def _lesson(
    job: Job,
    config: GrpoConfig | PpoConfig,
    provider: Mapping[str, str],
    nets: Mapping[str, Model],
    players: Sequence[Player],
    estimate: Estimate,
) -> Lesson:
    decoder = nets["decoder"]
    assert isinstance(decoder, Decoder)
    prep = job.prep
    assert isinstance(prep, TextPrep)
    context = decoder.config.context
    examples, notes = prompts(job, "train", context, config.rollouts, config.reward)
    if not examples:
        raise DataError(
            "There is nothing to ask and reward here.",
            where=f"{job.data.source}, train",
            wanted='conversations with "check", or --with reward=PROGRAM, or learn.reward.function',
            got="; ".join(notes) or "no conversations",
        )
    rewards = Rewards(config.reward, job.parents.get("reward"))
    answers = config.gradient.batch_size
    silent = isinstance(config, PpoConfig) or config.kl != 0
    source = Rollouts(job, examples, answers, config.rollouts, rewards, Guards(config.guards), estimate, silent=silent)
    group = config.rollouts.group
    said = f"{len(examples)} prompts, {answers // group} a step with {group} answers each; an answer is worth {rewards}"
    return Lesson(
        nets=nets,
        players=players,
        source=source,
        validate=validation(job, context, config.rollouts, rewards),
        assemble=lambda nets: assembled(job, nets, config.lora, provider),
        items=("answers", answers),
        together=group,
        notes=[said, *notes],
    )


def _grpo_lesson(job: Job, config: GrpoConfig, provider: Mapping[str, str]) -> Lesson:
    net = _policy(job, "grpo", config.lora)

    def loss(nets: Nets, batch: Batch) -> Loss:
        return policy_loss(nets, batch, config.clip, config.kl)

    nets = {"decoder": net, "start": copy.deepcopy(net)}
    policy = player("decoder", loss, config.gradient.optim, config.lora, "policy", config.passes)
    return _lesson(job, config, provider, nets, [policy], _of_groups(config))


def _ppo_lesson(job: Job, config: PpoConfig, provider: Mapping[str, str]) -> Lesson:
    net = _policy(job, "ppo", config.lora)

    def loss(nets: Nets, batch: Batch) -> Loss:
        return policy_loss(nets, batch, config.clip, 0.0)

    players = [
        player("decoder", loss, config.gradient.optim, config.lora, "policy", config.passes),
        player("critic", critic_loss, config.gradient.optim, config.lora, passes=config.passes),
    ]
    critic = Scorer.begin(starting_net(job))
    critic.adapt(config.lora, generator(job.seed, "critic's adapters"))
    nets = {"decoder": net, "critic": critic, "start": copy.deepcopy(net)}
    return _lesson(job, config, provider, nets, players, _of_critic(config))
