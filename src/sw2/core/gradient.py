"""The usual objective: gradient descent by one or several players.

A *player* owns some networks and an optimiser and lowers its own loss; a supervised learner is one player, a GAN two
in turn. A domain describes what is learned as a `Lesson` (networks, players, where batches come from, how to validate,
how to assemble the program); everything a good trainer does stands here once:

- bf16 autocast with fp32 weights, or fp32; optional `torch.compile`; channels-last for convolutions
- gradient accumulation in micro-batches, clipping by global norm, a guard that stops before a non-finite step
- recomputing instead of keeping what blocks computed (see `core.recompute`)
- warm-up and decay of the learning rate; AdamW, SGD or Muon (see `parts.optim`); an exponential average of the weights
- several processes (see `core.distributed`)

A loss is a sum over items (pictures, tokens) and a count of them, so that micro-batches and processes of unequal
content still give the exact mean: gradients of the sum are divided by the whole count once, before clipping. A loss
that compares the examples of a batch with each other is no such sum; who teaches by one says so (`divisible`), and what
one process has of a batch is then computed at once or not at all.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sw2.base.config import check_ranges
from sw2.base.device import choose_precision, out_of_memory
from sw2.base.errors import LearningError, UsageError
from sw2.base.seed import derive
from sw2.core import health
from sw2.core.distributed import World, average_gradients, gather, scatter_into, shard, world
from sw2.core.model import Batch, Model, count_parameters
from sw2.core.objective import Choices, Clock, Job, MemoryExhausted, Metrics, Objective, Snapshot
from sw2.core.program import Program
from sw2.core.recompute import recompute_blocks
from sw2.parts.layers.packed import PARTS
from sw2.parts.optim.average import Average
from sw2.parts.optim.build import Optim, OptimConfig, build_optim

__all__ = ["Gradient", "GradientConfig", "Lesson", "Loss", "Player", "Source", "State", "autocast"]

Nets = Mapping[str, Callable[[Batch], Mapping[str, Tensor]]]


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """How gradient descent runs.

    Args:
        batch_size: examples per step, over all processes; each takes an equal share.
        micro_batch: examples that one process computes at once; 0 takes the whole share.
        optim: the optimiser, its schedule and rates.
        clip_norm: the global gradient norm is scaled down to this; 0 switches clipping off.
        average_decay: decay of the exponential average of the weights, which becomes the program; 0 switches it off.
        precision: format of matrix products; "auto" measures bf16 against fp32 once.
        compile: whether `torch.compile` fuses the networks.
        parallel: how several processes hold the network; "auto" shards from 200 M parameters on.
        recompute: whether the backward pass computes each block again instead of keeping what it needs: less memory,
            more work, the same gradients.
    """

    batch_size: int = 64
    micro_batch: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)
    clip_norm: float = 1.0
    average_decay: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["on", "off"] = "off"
    parallel: Literal["auto", "replicate", "shard"] = "auto"
    recompute: Literal["on", "off"] = "off"

    def __post_init__(self) -> None:
        allowed = {
            "batch_size": (self.batch_size >= 1, "a whole number of at least 1"),
            "micro_batch": (self.micro_batch >= 0, "a whole number of at least 0"),
            "clip_norm": (self.clip_norm >= 0, "a number of at least 0"),
            "average_decay": (0 <= self.average_decay < 1, "a number in [0, 1)"),
        }
        check_ranges("gradient", self, allowed)


@dataclass(frozen=True)
class Loss:
    """A loss as the sum over `count` items, with further numbers to report (means over the items)."""

    total: Tensor
    count: float
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Source(ABC):
    """Where batches come from; a source for reinforcement learning looks at the current weights."""

    @abstractmethod
    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        """This process' share (`rank` of `size`) of the batch of `step`, on the CPU; a function of its arguments."""

    @abstractmethod
    def steps_per_epoch(self) -> float:
        """How many steps one pass takes."""

    def metrics(self) -> Metrics:
        """What there is to say of the batch that came last, beside what losses say of it."""
        return {}

    def state(self) -> Mapping[str, Any]:
        """What `step` does not determine (replay, rollouts), as plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put a `state` back."""
        assert not state, "this source keeps no state"


@dataclass(frozen=True, kw_only=True)
class Player:
    """One learner: which networks it changes, by which loss.

    Args:
        name: shown in metrics where there are several.
        nets: roles of the networks that it changes.
        loss: computes the Loss of a micro-batch from all networks.
        learns: whether a parameter of that name in one of its networks learns; by default all do.
        optim: overrides the config's optimiser.
        every: it moves at every n-th step.
        passes: how often it moves with the batch of a step.
    """

    name: str
    nets: tuple[str, ...]
    loss: Callable[[Nets, Batch], Loss]
    learns: Callable[[str], bool] = lambda name: True
    optim: OptimConfig | None = None
    every: int = 1
    passes: int = 1


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a domain says about learning with gradients.

    Args:
        nets: the networks by role, freshly initialised (or thawed) on the CPU. One that no player changes (a reference,
            a judge) stays as the job makes it: in evaluation mode, and in no checkpoint.
        players: who learns, in turn.
        source: where batches come from.
        validate: metrics of the networks on the validation split, in evaluation mode; None when there is none.
        assemble: makes the program from networks.
        items: the unit of throughput ("pictures", "tokens") and how many one step has.
        together: how many examples a row of a batch holds, where it is not one: of these are batch and micro-batch.
        stages: for each role, groups of parameter names from input to output for layer-wise learning rates.
        frozen_until: until this share of the steps, only the last stage of each network learns.
        keeps_statistics: whether batch normalisation goes by the means and deviations that it has, and leaves them as
            they are, in place of those of each batch.
        facts: further numbers for plans and cards; "epochs_per_step" holds for each named part of the data what share
            of it a step takes.
        notes: what a user should know of how the examples are used.
    """

    nets: Mapping[str, Model]
    players: Sequence[Player]
    source: Source
    validate: Callable[[Mapping[str, Model]], Metrics] | None
    assemble: Callable[[Mapping[str, Model]], Program]
    items: tuple[str, float]
    together: int = 1
    stages: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    frozen_until: float = 0.0
    keeps_statistics: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass
class State:
    """What changes while learning."""

    job: Job
    lesson: Lesson
    nets: dict[str, Model]
    views: dict[str, Any]
    optims: dict[str, Optim]
    averages: dict[str, Average]
    world: World
    last_batch: Batch = field(default_factory=dict)
    constant: dict[str, frozenset[str]] = field(default_factory=dict)  # for each network, what never changes
    moved: int = 0  # how many turns players have had in a step that memory interrupted


class Gradient(Objective[State]):
    """Gradient descent on the Lesson that `teach` makes of a job.

    Args:
        makes: the task that the program answers.
        config: see GradientConfig.
        teach: describes what is learned.
        divisible: whether the loss of a batch is the sum of the losses of its parts.

    Raises:
        UsageError: a micro-batch is asked for where the loss is not divisible.
    """

    def __init__(
        self, makes: str, config: GradientConfig, teach: Callable[[Job], Lesson], *, divisible: bool = True
    ) -> None:
        if config.micro_batch and not divisible:
            raise UsageError(
                "This loss compares the examples of a batch with each other, so a batch cannot be divided.",
                where="learn.gradient.micro_batch",
                wanted="0",
                got=config.micro_batch,
                do="Set a smaller learn.gradient.batch_size instead; fewer examples are then compared.",
            )
        self.makes, self.config, self.teach, self.divisible = makes, config, teach, divisible

    def choose(self, job: Job) -> Choices:
        values: dict[str, Any] = {"micro_batch": self.config.micro_batch, "compile": self.config.compile}
        reasons: dict[str, str] = {}
        if self.config.precision == "auto":
            precision = choose_precision(job.device)
            values["precision"], reasons["precision"] = precision.name, precision.reason
        else:
            values["precision"], reasons["precision"] = self.config.precision, "set by hand"
        return Choices(values=values, reasons=reasons)

    def smaller(self, choices: Mapping[str, Any]) -> Choices | None:
        present = int(choices["micro_batch"]) or math.ceil(self.config.batch_size / world().size)
        if present <= 1 or not self.divisible:
            return None
        half = math.ceil(present / 2)
        return Choices(
            values={**choices, "micro_batch": half}, reasons={"micro_batch": f"memory ran out at {present} examples"}
        )

    def start(self, job: Job) -> State:
        here = world()
        if self.config.batch_size % here.size:
            raise UsageError(
                "A batch cannot be shared equally among the processes.",
                wanted=f"a batch_size that {here.size} divides",
                got=self.config.batch_size,
            )
        lesson = self.teach(job)
        layout = self.config.parallel
        nets: dict[str, Model] = {}
        constant: dict[str, frozenset[str]] = {}
        for role, net in lesson.nets.items():
            learners = [player.learns for player in lesson.players if role in player.nets]
            constant[role] = _constant(net, learners)
            for name, parameter in net.named_parameters():
                parameter.requires_grad_(name not in constant[role])
            net = net.to(job.device)
            if any(isinstance(module, nn.Conv2d) for module in net.modules()):
                net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self.config.recompute == "on":
                recompute_blocks(net)
            if here.size > 1 and (layout == "shard" or (layout == "auto" and count_parameters(net) >= 200e6)):
                shard(net)
            nets[role] = _in_mode(net, bool(learners), lesson)
        views: dict[str, Any] = dict(nets)
        if job.choices["compile"] == "on":
            views = {role: torch.compile(net, dynamic=False) for role, net in nets.items()}
        optims = {
            player.name: build_optim(
                player.optim or self.config.optim,
                [
                    (f"{role}.{name}", parameter)
                    for role in player.nets
                    for name, parameter in nets[role].named_parameters()
                    if player.learns(name)
                ],
                [
                    [f"{role}.{name}" for name in stage if player.learns(name)]
                    for role in player.nets
                    for stage in lesson.stages.get(role, ())
                ],
            )
            for player in lesson.players
        }
        averages = {}
        if self.config.average_decay:
            averages = {
                role: Average(net, self.config.average_decay, constant[role])
                for role, net in nets.items()
                if _changes(net, constant[role])
            }
        return State(job, lesson, nets, views, optims, averages, here, constant=constant)

    def step(self, state: State, clock: Clock) -> Metrics:
        # Dropout is the one thing that draws from the global generator; seeding it by step makes that a function too.
        torch.manual_seed(derive(state.job.seed, "step", clock.step, state.world.rank))
        batch = state.lesson.source.batch(state.nets, clock.step, state.world.rank, state.world.size)
        state.last_batch = batch
        metrics = dict(state.lesson.source.metrics())
        turns = [player for player in state.lesson.players for _ in range(player.passes)]
        for turn, player in enumerate(turns):
            if clock.step % player.every == 0 and turn >= state.moved:
                self._let_learn(state, player, clock)
                found, norm = self._backward(state, player, batch, clock)
                prefix = f"{player.name}." if len(state.lesson.players) > 1 else ""
                metrics |= {f"{prefix}{name}": value for name, value in {**found, "gradient_norm": norm}.items()}
                state.optims[player.name].step(clock.step, clock.total)
                for role in player.nets:
                    state.nets[role].zero_grad(set_to_none=True)
                state.moved = turn + 1
        state.moved = 0
        first = state.optims[state.lesson.players[0].name]
        metrics["learning_rate"] = first.config.learning_rate * first.multiplier(clock.step, clock.total)
        for role, average in state.averages.items():
            average.update(state.nets[role], clock.step)
        return metrics

    def _backward(self, state: State, player: Player, batch: Batch, clock: Clock) -> tuple[dict[str, float], float]:
        """Leave the gradients of the mean loss on the player's networks; (metrics, norm before clipping)."""
        rows = len(next(iter(batch.values())))
        asked = int(state.job.choices["micro_batch"])
        micro = max(1, asked // state.lesson.together) if asked else rows
        # The same number in every process, near to its rows.
        share = self.config.batch_size / state.world.size
        buffers = [
            (buffer, buffer.clone())
            for role, net in state.nets.items()
            for name, buffer in net.named_buffers()
            if name not in state.constant[role]
        ]
        exhausted: BaseException | None = None
        parameters = [p for role in player.nets for p in state.nets[role].parameters() if p.requires_grad]
        totals: dict[str, float] = {}
        count = 0.0
        try:
            for start in range(0, rows, micro):
                part = {
                    name: tensor[start : start + micro].to(state.job.device, non_blocking=True)
                    for name, tensor in batch.items()
                }
                with autocast(state.job):
                    loss = player.loss(state.views, part)
                # Scaled so that bf16 and fp32 gradients stay near their final size while they add up.
                (loss.total / share).backward()
                count += loss.count
                totals["loss"] = totals.get("loss", 0.0) + float(loss.total.detach())
                for name, value in loss.metrics.items():
                    totals[name] = totals.get(name, 0.0) + float(value.detach()) * loss.count
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            exhausted = error
        if state.world.any(exhausted is not None):
            _undo(parameters, buffers)
            raise MemoryExhausted(str(exhausted or "in another process")) from exhausted
        names = list(totals)
        mean_count, *sums = state.world.mean([count, *(totals[name] for name in names)])
        found = {name: value / max(mean_count, 1e-12) for name, value in zip(names, sums, strict=True)}
        if state.world.size > 1:
            average_gradients(parameters)
        # From the mean over rows to the mean over items, and clipped: both factors in one pass over the gradients.
        scale = share / max(mean_count, 1e-12)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = float(gather(nn.utils.get_total_norm(gradients))) * scale
        if not (math.isfinite(norm) and math.isfinite(found["loss"])):
            _undo(parameters, buffers)
            raise LearningError(
                "The loss is not finite; learning stopped before it could spoil the weights.",
                where=f"step {clock.step}" + (f", player {player.name}" if len(state.lesson.players) > 1 else ""),
                wanted="a finite loss and gradient",
                got=f"loss {found['loss']}, gradient norm {norm}",
                do="Lower the learning_rate, or look for broken examples; the last checkpoint is kept.",
            )
        if self.config.clip_norm and norm > self.config.clip_norm:
            scale *= self.config.clip_norm / norm
        if scale != 1.0:
            torch._foreach_mul_(gradients, scale)
        return found, norm

    def _let_learn(self, state: State, player: Player, clock: Clock) -> None:
        """Only the player's networks take gradients; before `frozen_until`, only their last stages."""
        frozen = clock.step < state.lesson.frozen_until * clock.total
        for role, net in state.nets.items():
            stages = state.lesson.stages.get(role, ())
            last = set(stages[-1]) if stages and frozen else None
            for name, parameter in net.named_parameters():
                mine = role in player.nets and player.learns(name)
                parameter.requires_grad_(mine and (last is None or name in last))

    def snapshot(self, state: State) -> Snapshot:
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {"source": dict(state.lesson.source.state()), "moved": state.moved}
        for role, net in state.nets.items():
            tensors |= {
                f"net/{role}/{name}": gather(tensor)
                for name, tensor in net.state_dict().items()
                if name not in state.constant[role]
            }
        for role, average in state.averages.items():
            tensors |= {f"average/{role}/{name}": gather(tensor) for name, tensor in average.tensors().items()}
        for name, optim in state.optims.items():
            for key, tensor in optim.tensors().items():
                tensors[f"optim/{name}/{key}"] = gather(tensor)
        return Snapshot(tensors=tensors, values=values)

    def restore(self, state: State, snapshot: Snapshot) -> None:
        def under(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in snapshot.tensors.items() if n.startswith(prefix)}

        for role, net in state.nets.items():
            kept = under(f"net/{role}/")
            for name, tensor in net.state_dict().items():
                if name not in state.constant[role]:
                    scatter_into(tensor, kept[name])
        for role, average in state.averages.items():
            kept = under(f"average/{role}/")
            for name, tensor in average.tensors().items():
                scatter_into(tensor, kept[name])
        for name, optim in state.optims.items():
            optim.restore(under(f"optim/{name}/"), scatter_into)
        state.lesson.source.restore(snapshot.values["source"])
        state.moved = snapshot.values["moved"]

    def evaluate(self, state: State) -> Metrics:
        if state.lesson.validate is None:
            return {}
        with self._learned(state) as nets, torch.no_grad(), autocast(state.job):
            return state.lesson.validate(nets)

    @contextlib.contextmanager
    def _learned(self, state: State) -> Iterator[Mapping[str, Model]]:
        """The networks as the program would have them: averaged where an average is kept, in evaluation mode."""
        with contextlib.ExitStack() as stack:
            for role, average in state.averages.items():
                stack.enter_context(average.swapped_into(state.nets[role]))
            modes = {role: net.training for role, net in state.nets.items()}
            for net in state.nets.values():
                net.eval()
            try:
                yield state.nets
            finally:
                for role, net in state.nets.items():
                    _in_mode(net, modes[role], state.lesson)

    def finish(self, state: State) -> Program:
        with self._learned(state) as nets:
            copies: dict[str, Model] = {}
            for role, net in nets.items():
                if not _changes(net, state.constant[role]):
                    copies[role] = net
                    continue
                fresh = net.blank()
                fresh.load_state_dict({name: gather(tensor).cpu().clone() for name, tensor in net.state_dict().items()})
                copies[role] = fresh
        return state.lesson.assemble(copies)

    def steps_per_epoch(self, state: State) -> float | None:
        return state.lesson.source.steps_per_epoch()

    def watched_step(self, state: State, clock: Clock) -> tuple[Metrics, Mapping[str, Any] | None]:
        """A step, and a probe of the first player's first network on at most eight examples of its batch."""
        player = state.lesson.players[0]
        role = player.nets[0]
        net = state.nets[role]
        before = {n: p.detach().clone() for n, p in net.named_parameters() if n not in state.constant[role]}
        metrics = self.step(state, clock)
        if state.world.size > 1:
            return metrics, None
        most = min(8, int(state.job.choices["micro_batch"]) or 8)
        few = {name: tensor[:most].to(state.job.device) for name, tensor in state.last_batch.items()}
        self._let_learn(state, player, clock)  # another player may have moved last

        def mean_loss(model: Model, batch: Batch) -> Tensor:
            with autocast(state.job):
                loss = player.loss({**state.nets, role: model}, batch)
            return loss.total / loss.count

        with torch.random.fork_rng(devices=[]):
            rows = health.probe(net, mean_loss, few)
        for other in player.nets:  # the probe minds the gradients of its own network alone
            state.nets[other].zero_grad(set_to_none=True)
        ratios = health.update_ratios(net, before)
        rows = [{**row, "update": ratios[row["layer"]]} if row["layer"] in ratios else row for row in rows]
        return metrics, {"layers": rows, "findings": health.diagnose(rows)}

    def notes(self, state: State) -> Sequence[str]:
        return state.lesson.notes

    def alike_from(self, state: State) -> float:
        return state.lesson.frozen_until

    def facts(self, state: State) -> Mapping[str, Any]:
        unit, per_step = state.lesson.items
        owned = {role: net for role, net in state.nets.items() if _changes(net, state.constant[role])}
        whole = sum(count_parameters(net) for net in owned.values())
        learning = sum(
            parameter.numel()
            for role, net in owned.items()
            for name, parameter in net.named_parameters()
            if name not in state.constant[role]
        )
        return {
            "parameters": whole,
            **({"learning parameters": learning} if learning < whole else {}),
            "unit": unit,
            f"{unit}_per_step": per_step,
            **state.lesson.facts,
        }


def autocast(job: Job) -> contextlib.AbstractContextManager[Any]:
    """The precision that was chosen for the job's matrix products."""
    if job.choices["precision"] == "bf16":
        return torch.autocast(job.device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _constant(net: Model, learners: Sequence[Callable[[str], bool]]) -> frozenset[str]:
    """Names of the tensors in the state of `net` that none of `learners` changes.

    Without learners all of them. Otherwise the parameters that none of them names, and packed weights; buffers such as
    running statistics change without being learned.
    """
    if not learners:
        return frozenset(net.state_dict()) | {name for name, _ in net.named_buffers()}
    every = dict(net.named_parameters(remove_duplicate=False))  # tied ones under all their names
    moving = {id(p) for name, p in net.named_parameters() if any(learns(name) for learns in learners)}
    packed = {name for name, _ in net.named_buffers() if name.endswith(PARTS)}
    return frozenset({name for name, parameter in every.items() if id(parameter) not in moving} | packed)


def _in_mode(net: Model, training: bool, lesson: Lesson) -> Model:
    """`net`, in training mode or not; its batch normalisation never, where the lesson keeps statistics."""
    net.train(training)
    if lesson.keeps_statistics:
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    return net


def _changes(net: Model, constant: Collection[str]) -> bool:
    """Whether any of its state may change."""
    return bool(set(net.state_dict()) - set(constant))


def _undo(parameters: Sequence[nn.Parameter], buffers: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Forget the gradients, and put running statistics back."""
    for parameter in parameters:
        parameter.grad = None
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
