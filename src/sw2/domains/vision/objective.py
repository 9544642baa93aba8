"""How a picture classifier is learned: gradient descent on cross entropy, from scratch or from another program.

Shapes: N pictures, C channels, S pixels a side, K labels, B pictures in a batch.

All training pictures are decoded and resized once and kept as uint8 [N, C, S, S]; augmentation and normalisation run on
whole batches of tensors. Starting from another program keeps every tensor that fits; for another set of labels only
the last layer is new. It starts as the logistic regression on what it sees of training pictures, so that learning
begins at what the known features are worth, and no random gradients spoil them (Kumar et al. 2022, arXiv:2202.10054).
All stages learn, earlier ones more slowly by a factor per stage (Howard and Ruder 2018, arXiv:1801.06146, section 3.2);
the last may learn alone for a time.

Cross entropy with label smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7. Of mixed pictures (`regularise`)
the target is the mixture of their labels; accuracy counts the label that a picture came with. What a network in
training says under "auxiliary" [B, A, K], logits of heads in its middle, counts 0.3 each (Szegedy et al. 2014,
arXiv:1409.4842, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.errors import UsageError
from sw2.base.seed import derive, generator, numpy_generator
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets, Player, Source
from sw2.core.model import Batch, Model, Outputs
from sw2.core.objective import Job, Metrics
from sw2.core.program import Net, Program
from sw2.domains.vision.augment import Config as AugmentConfig
from sw2.domains.vision.augment import augment
from sw2.domains.vision.prep import PicturePrep
from sw2.domains.vision.regularise import MixConfig, mix
from sw2.domains.vision.task import PictureClassifier
from sw2.parts.data.order import ShuffledOrder
from sw2.parts.linear import logistic_regression

__all__ = ["LearnConfig", "known_network", "learn", "network", "parameter_names", "solve_last", "total_loss"]

_AUXILIARY_SHARE = 0.3
_SOLVED_ON = 2000


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How a picture classifier is learned.

    Args:
        gradient: batches, optimiser, precision; see `core.gradient`.
        augment: what may be done to a picture without changing its label.
        mix: how pictures and labels are mixed with others of the batch; pays in long trainings.
        label_smoothing: share of the target spread over all labels, in [0, 1).
        frozen_until: with a program to start from, the share of the steps in which only the last stage learns.
        statistics: with a program to start from, whether batch normalisation goes by the means and deviations of each
            batch, or by those of that program, which a few pictures would only blur.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    label_smoothing: float = 0.0
    frozen_until: float = 0.0
    statistics: Literal["batch", "kept"] = "batch"


def learn(config: LearnConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient("image-classification", config.gradient, lambda job: _lesson(job, config, provider))


class _Pictures(Source):
    """Batches from all training pictures in memory."""

    def __init__(
        self, pictures_NCSS: Tensor, labels_N: Tensor, prep: PicturePrep, config: LearnConfig, seed: int
    ) -> None:
        self.pictures, self.labels, self.prep, self.config, self.seed = pictures_NCSS, labels_N, prep, config, seed
        self.order = ShuffledOrder(len(labels_N), config.gradient.batch_size, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        chosen_B = torch.from_numpy(self.order.indices(step))
        # Every process augments the whole batch, so that a picture gets the same draw however many share the work.
        pictures_BCSS = augment(self.pictures[chosen_B], self.config.augment, generator(self.seed, "augment", step))
        labels_B = self.labels[chosen_B]
        if not (self.config.mix.mixup or self.config.mix.cutmix):
            return {"image": self.prep.normalise(pictures_BCSS[rank::size]), "label": labels_B[rank::size]}
        draw = numpy_generator(self.seed, "mix", step)
        normal_BCSS = self.prep.normalise(pictures_BCSS)
        mixed_BCSS, target_BK = mix(normal_BCSS, labels_B, len(self.prep.labels), self.config.mix, draw)
        whole = {"image": mixed_BCSS, "label": labels_B, "target": target_BK}
        return {name: tensor[rank::size] for name, tensor in whole.items()}

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()


def _lesson(job: Job, config: LearnConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, PicturePrep)
    train = job.data.split("train")
    net = network(job, prep)
    stages = parameter_names(net)
    pictures_NCSS, labels_N = prep.pictures(train), prep.targets(train)
    if "start" in job.parents and job.parents["start"].prep.labels != prep.labels:  # type: ignore[attr-defined]
        solve_last(net, prep, pictures_NCSS, labels_N)

    def loss(nets: Nets, batch: Batch) -> Loss:
        outputs = nets["classifier"](batch)
        total = total_loss(outputs, batch, config.label_smoothing)
        labels_B = batch["label"]
        right = (outputs["logits"].detach().argmax(1) == labels_B).float().mean()
        return Loss(total, len(labels_B), {"accuracy": right})

    return Lesson(
        nets={"classifier": net},
        players=[Player(name="classifier", nets=("classifier",), loss=loss)],
        source=_Pictures(pictures_NCSS, labels_N, prep, config, job.seed),
        validate=_validation(job, prep),
        assemble=lambda nets: Program.assemble(
            task=job.task,
            runtime=PictureClassifier,
            nets={role: Net(job.model_name, module) for role, module in nets.items()},
            prep=prep,
            provider=provider,
        ),
        items=("pictures", config.gradient.batch_size),
        stages={"classifier": stages},
        frozen_until=config.frozen_until if job.parents else 0.0,
        keeps_statistics=bool(job.parents) and config.statistics == "kept",
    )


def total_loss(outputs: Outputs, batch: Batch, label_smoothing: float) -> Tensor:
    """Cross entropy, summed over the pictures; that of auxiliary heads counts 0.3.

    Args:
        outputs: of a network: "logits" [B, K], and "auxiliary" [B, A, K] where it has such heads.
        batch: "label" int64 [B]; "target" [B, K] instead where labels were mixed.
        label_smoothing: see LearnConfig.

    Returns:
        float32, one number.
    """
    target = batch.get("target", batch["label"])

    def missed(logits_BK: Tensor) -> Tensor:
        return F.cross_entropy(logits_BK.float(), target, reduction="sum", label_smoothing=label_smoothing)

    total = missed(outputs["logits"])
    for logits in outputs["auxiliary"].unbind(1) if "auxiliary" in outputs else ():
        total = total + _AUXILIARY_SHARE * missed(logits)
    return total


def known_network(parent: Program) -> tuple[str, Net]:
    """The role and the network by which a program looks at pictures.

    Raises:
        UsageError: it does not.
    """
    for role in ("classifier", "encoder"):
        if role in parent.nets and isinstance(parent.prep, PicturePrep):
            return role, parent.nets[role]
    raise UsageError(
        "A network for pictures cannot start from this program.",
        where=parent.path,
        wanted="a program for image-classification or image-feature-extraction",
        got=f"a program for {parent.task.name}",
    )


def network(job: Job, prep: PicturePrep) -> Model:
    """The network for the job's labels (one output where there are none), with every tensor of the parent that fits.

    Raises:
        UsageError: a setting contradicts the data.
    """
    model_config = job.model_config
    follows = {"classes": len(prep.labels) or 1, "channels": prep.config.channels, "size": prep.config.size}
    for key, value in follows.items():
        if getattr(model_config, key, value) != value:
            raise UsageError(
                f"The setting 'model.{key}' contradicts the data.",
                wanted=f"{value}, which follows from the labels, prep.channels and prep.size",
                got=getattr(model_config, key),
                do="Leave model.classes out."
                if key == "classes"
                else f"Set prep.{key} and model.{key} to the same, or leave both out.",
            )
    kind: type[Model] = job.model_class
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(job.seed, "weights"))
        net = kind(model_config)
    if "start" in job.parents:
        role, _ = known_network(job.parents["start"])
        known = job.parents["start"].thaw()[role].state_dict()
        fresh = net.state_dict()
        fitting = {name: t for name, t in known.items() if name in fresh and t.shape == fresh[name].shape}
        net.load_state_dict({**fresh, **fitting})
    return net


def solve_last(net: Model, prep: PicturePrep, pictures_NCSS: Tensor, labels_N: Tensor) -> None:
    """Give the last layer the weights of a logistic regression on what comes to it, on at most 2,000 of the pictures.

    Labels that none of them has keep the weights that are there; a network whose last stage is no linear layer on
    vectors stays as it is.
    """
    last = net.stages()[-1][1]
    if not isinstance(last, nn.Linear):
        return
    few = torch.linspace(0, len(labels_N) - 1, min(_SOLVED_ON, len(labels_N))).round().long()
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    training = net.training
    with torch.no_grad():
        for some in few.split(32):
            net.eval()({"image": prep.normalise(pictures_NCSS[some])})
        hook.remove()
        net.train(training)
        features_ND = torch.cat(seen)
        if features_ND.ndim != 2:
            return
        solved = logistic_regression(features_ND.double().numpy(), labels_N[few].numpy())
        if len(solved.labels) > 1:
            last.weight[solved.labels] = torch.from_numpy(solved.weight).float()
            last.bias[solved.labels] = torch.from_numpy(solved.bias).float()


def parameter_names(net: Model) -> Sequence[Sequence[str]]:
    """The names of each stage's parameters, from input to output."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return [[names[id(parameter)] for parameter in stage.parameters()] for _, stage in net.stages()]


def _validation(job: Job, prep: PicturePrep):  # type: ignore[no-untyped-def]
    """The function that computes loss and accuracy on the validation split; None when there is none."""
    if "validation" not in job.data.splits:
        return None
    held_out = job.data.split("validation")
    pictures, labels = prep.pictures(held_out), prep.targets(held_out)

    def validate(nets: Mapping[str, nn.Module]) -> Metrics:
        total = right = 0.0
        for start in range(0, len(labels), 512):
            image = prep.normalise(pictures[start : start + 512]).to(job.device)
            target = labels[start : start + 512].to(job.device)
            logits = nets["classifier"]({"image": image})["logits"].float()
            total += float(F.cross_entropy(logits, target, reduction="sum"))
            right += float((logits.argmax(1) == target).sum())
        return {"loss": total / len(labels), "accuracy": right / len(labels)}

    return validate
