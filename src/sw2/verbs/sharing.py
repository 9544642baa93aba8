"""Weights that many networks share: one large network is learned, and each network of a search is a part of it (ENAS).

    each step            a controller draws a network; its part of the shared weights takes a step on training examples
    after a quarter      and a second one is drawn and asked about validation examples: its reward R is exp(-mean loss),
                         and the controller takes a step up (R - b) log p(network) + 0.01 entropy, b a moving mean of R
    at the end           the controller draws some, the task judges each with the shared weights as it judges programs

Learning all of them takes little longer than learning one, so a search can look at many more networks than it could
learn; how well shared weights tell them apart is measured (`benchmarks/shared_weights.py`), and is no more than a
reason to try some of them first. What is found is learned anew, alone.

The controller is an LSTM that says the values of the settings one after the other, each depending on those before it.
Its logits l become 2.5 tanh(l / 5), so that no value is ever out of reach (Bello et al. 2016, arXiv:1611.09940).

Choices
- A model offers this by a `core.model.Shared`; whatever is learned by gradients and has one can be searched, for the
  domain's own lesson teaches here too: its loss, its batches, its optimiser. Batches of validation examples are those
  of the same lesson, taught from the validation split.
- The reward is one over the perplexity, which is what the paper takes for texts; for pictures it takes accuracy, which
  another domain may not have, and of which a batch says less.
- Both learn at every step, where the paper alternates between passes over the examples and thousands of draws. The
  first quarter draws all networks evenly: the controller would else learn from weights that know nothing yet.
- Rate, entropy and size of the controller are ours, for hundreds of steps instead of ten thousands.
- It is an ordinary run (`Trainer`): budget, checkpoints and resume are those of any learning, and each draw is a
  function of the seed and the step.

Source: Pham et al., "Efficient Neural Architecture Search via Parameter Sharing" (2018),
https://arxiv.org/abs/1802.03268, sections 2 and 3; REINFORCE: Williams (1992), doi:10.1007/BF00992696.

What it does not do: settings that do not share weights (a rate, a width), several processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sw2.base.config import apply_settings
from sw2.base.errors import LearningError, UsageError
from sw2.base.seed import derive, generator, numpy_generator
from sw2.core.data import Data, Split
from sw2.core.distributed import scatter_into
from sw2.core.gradient import Gradient, Lesson, autocast
from sw2.core.gradient import State as Learning
from sw2.core.model import Shared
from sw2.core.objective import Choices, Clock, Job, Metrics, Objective, Snapshot
from sw2.core.program import Program
from sw2.core.registry import Registry
from sw2.core.run import Run
from sw2.core.space import Choice, Space, settings_of
from sw2.core.task import Context, Task
from sw2.core.trainer import Learned, Reporter
from sw2.parts.optim.build import OptimConfig, build_optim
from sw2.parts.optim.schedule import ScheduleConfig
from sw2.verbs.train import Instead, Order, Setup, fit

__all__ = ["Controller", "Family", "Reinforce", "Sharing", "learn_together", "sharable"]

_EVENLY: Final = 0.25
"""Up to this share of the steps every network is as likely as any other, and the controller does not learn."""
_HIDDEN: Final = 64
_STEEPEST: Final = 2.5
_FLATNESS: Final = 5.0
_OPTIM: Final = OptimConfig(
    learning_rate=5e-3, weight_decay=0.0, betas=(0.9, 0.99), schedule=ScheduleConfig(shape="constant", warmup=0.0)
)
_ENTROPY: Final = 0.01
_KEPT: Final = 0.95
"""Share of the baseline that stays at each reward."""
_TRIES: Final = 1000
"""How often the controller is asked for a network that fits."""


def sharable(registry: Registry, setup: Setup, space: Space) -> type[Shared]:
    """The class of the network whose parts are those of `space`.

    Raises:
        UsageError: they share no weights.
    """
    name = setup.recipe.model
    found = registry.shared_class(name)
    if found is None:
        raise UsageError(
            f"Networks of the model '{name}' share no weights.",
            where="--strategy shared",
            wanted="a model whose networks can; docs/search.md names them",
            got=name,
            do="Take another --strategy, or another --model.",
        )
    if apart := [key for key in space.entries if key not in found.settings]:
        raise UsageError(
            "Networks that differ in this setting share no weights.",
            where=f"--space {apart[0]}",
            wanted=", ".join(found.settings),
            got=apart[0],
            do="Set it for all of them (--set), or take another --strategy.",
        )
    if not isinstance(registry.objective(setup.recipe.objective, setup.sections["learn"], setup.order.task), Gradient):
        raise UsageError(
            "Weights are shared where learning goes down gradients.",
            where="--strategy shared",
            wanted="another --strategy",
            got=setup.recipe.objective,
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Family:
    """Networks that share their weights, learned together.

    Args:
        learned: with the program that is any of them.
        net: its shared network.
        controller: that says which of them are good.
        space: they.
    """

    learned: Learned
    net: Shared
    controller: Controller
    space: Space

    def drawn(self, number: int, seed: int) -> list[dict[str, Any]]:
        """Different networks among `number` draws of the controller, in their order."""
        found: list[dict[str, Any]] = []
        for place in range(number):
            values = self.controller.fitting(self.space, generator(seed, "drawn", place))[0]
            if values not in found:
                found.append(values)
        return found

    def judged(
        self, values: Mapping[str, Any], task: Task, held_out: Split, context: Context
    ) -> list[tuple[str, float, str]]:
        """What the task says of the network `values` with the shared weights: (name, value, better)."""
        self.net.choose(config_of(self.space, values))
        scores = task.judge(self.learned.program, held_out, context)
        return [(each.name, float(each.value), each.better) for each in scores]


def learn_together(
    registry: Registry,
    order: Order,
    space: Space,
    shared: type[Shared],
    data: Data,
    out: Path,
    context: Context,
    reporter: Reporter | None = None,
) -> Family:
    """Learn the networks of `space` with shared weights, in the run folder `out`, which goes on where it stands.

    Args:
        order: what each would be learned by; its budget is for all of them.
        space: the networks.
        shared: what `sharable` found.
        data: "train" and "validation".

    Raises:
        Sw2Error: see `base.errors`.
    """

    def together(job: Job, objective: Objective[Any]) -> tuple[Job, Objective[Any]]:
        assert isinstance(objective, Gradient)
        return replace(job, model_class=shared), Sharing(objective, space)

    learned = fit(registry, order, data, out, context, reporter, instead=Instead(section="shared", of=together))
    kept = Run(out).latest_checkpoint()
    assert kept is not None, "learning ends with a checkpoint"
    controller = Controller(space, order.seed)
    controller.load_state_dict(_under(_NET, kept[1].tensors))
    (net,) = (each.module for each in learned.program.nets.values() if isinstance(each.module, Shared))
    return Family(learned=learned, net=net, controller=controller, space=space)


def config_of(space: Space, values: Mapping[str, Any]) -> Any:
    """The model's Config with these values."""
    return apply_settings(space.sections, settings_of(values))["model"]


# -- the controller --------------------------------------------------------------------------------------------------


class Controller(nn.Module):
    """Draws a value of each setting of a space, one after the other; see the top of this file.

    Args:
        space: of choices and whole numbers.
        seed: of its first weights.
    """

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__()
        self.values = {
            key: each.values if isinstance(each, Choice) else tuple(range(int(each.low), int(each.high) + 1))
            for key, each in space.entries.items()
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "controller"))
            self.begin = nn.Parameter(torch.zeros(1, _HIDDEN))
            self.said = nn.ModuleList(nn.Embedding(len(each), _HIDDEN) for each in self.values.values())
            self.cell = nn.LSTMCell(_HIDDEN, _HIDDEN)
            self.heads = nn.ModuleList(nn.Linear(_HIDDEN, len(each)) for each in self.values.values())
        for head in self.heads:  # nothing is known at the beginning: all values are as likely
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, random: torch.Generator) -> tuple[dict[str, Any], Tensor, Tensor]:
        """A combination; the logarithm of its probability, and the entropy of all draws: each a number with gradient.

        Args:
            random: two calls with generators of one seed draw the same.
        """
        found: dict[str, Any] = {}
        chances, entropies = [], []
        heard, state = self.begin, None
        for (key, values), said, head in zip(self.values.items(), self.said, self.heads, strict=True):
            state = self.cell(heard, state)
            logs_V = torch.log_softmax(_STEEPEST * torch.tanh(head(state[0]) / _FLATNESS), 1)[0]
            drawn = torch.multinomial(logs_V.detach().exp(), 1, generator=random)
            chances.append(logs_V[drawn[0]])
            entropies.append(-(logs_V.exp() * logs_V).sum())
            found[key] = values[int(drawn)]
            heard = said(drawn)
        return found, torch.stack(chances).sum(), torch.stack(entropies).sum()

    def fitting(self, space: Space, random: torch.Generator) -> tuple[dict[str, Any], Tensor, Tensor]:
        """The first draw that the configs take.

        Raises:
            LearningError: they took none of a thousand.
        """
        for _ in range(_TRIES):
            found: tuple[dict[str, Any], Tensor, Tensor] = self(random)
            if space.fits(found[0]):
                return found
        raise LearningError(
            "The controller draws nothing that fits.",
            where="shared weights",
            wanted="a space of which more combinations fit",
            got=f"{_TRIES} that do not, such as {', '.join(settings_of(found[0]))}",
        )


class Reinforce:
    """How a controller learns from rewards: Adam on -(R - b) log p - 0.01 entropy, with b a moving mean of R.

    Args:
        controller: whose weights change.
    """

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.optim = build_optim(_OPTIM, list(controller.named_parameters()))
        self.baseline: float | None = None

    def hear(self, clock: Clock, reward: float, chance: Tensor, entropy: Tensor) -> None:
        """Take one step.

        Args:
            reward: R, of what was drawn.
            chance, entropy: what the controller said with it.
        """
        before = reward if self.baseline is None else self.baseline
        (-(reward - before) * chance - _ENTROPY * entropy).backward()  # type: ignore[no-untyped-call]
        self.optim.step(clock.step, clock.total)
        self.controller.zero_grad(set_to_none=True)
        self.baseline = _KEPT * before + (1 - _KEPT) * reward


# -- learning --------------------------------------------------------------------------------------------------------

_NET: Final = "controller/net/"
_ADAM: Final = "controller/optim/"


@dataclass
class _State:
    """What changes: the shared weights and the controller; `asked` has the validation examples."""

    learning: Learning
    asked: Lesson
    net: Shared
    controller: Controller
    reinforce: Reinforce


class Sharing(Objective[_State]):
    """Learns the networks of a space together, by the objective that each would be learned by.

    Args:
        inner: how one is learned.
        space: the networks. The job's model class is their Shared.
    """

    def __init__(self, inner: Gradient, space: Space) -> None:
        self.inner, self.space, self.makes = inner, space, inner.makes

    def choose(self, job: Job) -> Choices:
        return self.inner.choose(job)

    def smaller(self, choices: Mapping[str, Any]) -> Choices | None:
        return self.inner.smaller(choices)

    def start(self, job: Job) -> _State:
        learning = self.inner.start(job)
        validation = replace(job.data, splits={"train": job.data.split("validation")})
        (net,) = (each for each in learning.nets.values() if isinstance(each, Shared))
        controller = Controller(self.space, job.seed)
        asked = self.inner.teach(replace(job, data=validation))
        return _State(learning, asked, net, controller, Reinforce(controller))

    def step(self, state: _State, clock: Clock) -> Metrics:
        seed, evenly = state.learning.job.seed, clock.step < _EVENLY * clock.total
        if evenly:
            values = self.space.fresh(numpy_generator(seed, "evenly", clock.step), ()) or {}
        else:
            with torch.no_grad():
                values = state.controller.fitting(self.space, generator(seed, "learn", clock.step))[0]
        state.net.choose(config_of(self.space, values))
        metrics = self.inner.step(state.learning, clock)
        return metrics if evenly else {**metrics, **self._rewarded(state, clock)}

    def _rewarded(self, state: _State, clock: Clock) -> Metrics:
        """Ask a network that the controller draws about validation examples, and let the controller learn from it."""
        job = state.learning.job
        values, chance, entropy = state.controller.fitting(self.space, generator(job.seed, "ask", clock.step))
        state.net.choose(config_of(self.space, values))
        reward = math.exp(-self._loss(state, clock))
        state.reinforce.hear(clock, reward, chance, entropy)
        return {"reward": reward, "entropy": float(entropy.detach())}

    @torch.no_grad()
    def _loss(self, state: _State, clock: Clock) -> float:
        """The mean loss of the chosen network over a batch of validation examples, in evaluation mode."""
        learning = state.learning
        batch = state.asked.source.batch(learning.nets, clock.step, 0, 1)
        batch = {name: tensor.to(learning.job.device) for name, tensor in batch.items()}
        modes = {role: net.training for role, net in learning.nets.items()}
        for net in learning.nets.values():
            net.eval()
        try:
            with autocast(learning.job):
                loss = state.asked.players[0].loss(learning.nets, batch)
        finally:
            for role, net in learning.nets.items():
                net.train(modes[role])
        return float(loss.total) / loss.count

    def snapshot(self, state: _State) -> Snapshot:
        inner = self.inner.snapshot(state.learning)
        ours = {_NET + name: tensor for name, tensor in state.controller.state_dict().items()}
        ours |= {_ADAM + name: tensor for name, tensor in state.reinforce.optim.tensors().items()}
        return Snapshot(
            tensors={**inner.tensors, **ours},
            values={"inner": dict(inner.values), "baseline": state.reinforce.baseline},
        )

    def restore(self, state: _State, snapshot: Snapshot) -> None:
        self.inner.restore(state.learning, Snapshot(tensors=snapshot.tensors, values=snapshot.values["inner"]))
        state.controller.load_state_dict(_under(_NET, snapshot.tensors))
        state.reinforce.optim.restore(_under(_ADAM, snapshot.tensors), scatter_into)
        state.reinforce.baseline = snapshot.values["baseline"]

    def finish(self, state: _State) -> Program:
        return self.inner.finish(state.learning)

    def steps_per_epoch(self, state: _State) -> float | None:
        return self.inner.steps_per_epoch(state.learning)

    def evaluate(self, state: _State) -> Metrics:
        return self.inner.evaluate(state.learning)

    def notes(self, state: _State) -> Sequence[str]:
        return self.inner.notes(state.learning)

    def alike_from(self, state: _State) -> float:
        return max(_EVENLY, self.inner.alike_from(state.learning))

    def facts(self, state: _State) -> Mapping[str, Any]:
        return self.inner.facts(state.learning)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
