"""Contrastive learning: of all views in a batch, which one is of the same picture?

Shapes: B pictures, N = 2 B views, C channels, S pixels a side, D width of the features, E of the projection.

    two views of each picture [B, 2, C, S, S] → encoder → features [N, D] → linear, norm, ReLU, linear → z [N, E]

    NT-Xent of view i and its partner j:  -log( exp(s_ij / t) / sum over k ≠ i of exp(s_ik / t) ),  s the cosine of z

Every other view of the batch is what the partner is told from, so a batch is never computed in parts: the loss would be
another one. Memory that runs out is an error here and not a smaller micro-batch; with several processes each tells
its own share apart.

Why this one on two cores: batches of 256 small pictures fit and are cheap; no copy of the network sees every picture
again, as in BYOL and MoCo; vectors that are all the same do no better than chance, where methods without other pictures
in their loss need a further device against them; and it brings one number of its own, the temperature. See the domain's
README.

Source: Chen et al., "A Simple Framework for Contrastive Learning" (2020), https://arxiv.org/abs/2002.05709, equation 1,
section 2.1 and, for the temperature of small pictures, appendix B.9. Not taken over: LARS, and a norm after the last
layer of the projection.

What it does not do: GoogLeNet, whose heads in the middle ask for labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets
from sw2.core.model import Batch, Model, Outputs
from sw2.core.objective import Job
from sw2.domains.vision.objective import network
from sw2.domains.vision.prep import PicturePrep
from sw2.domains.vision.pretraining.lesson import drawn, lesson_without_labels
from sw2.domains.vision.pretraining.views import ViewConfig, view

__all__ = ["ContrastiveConfig", "Projection", "learn", "nt_xent"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """How views are told apart.

    Args:
        gradient: batches, optimiser, precision; see `core.gradient`. batch_size counts pictures, of two views each.
        views: how two views of a picture differ.
        temperature: t, above 0; lower ones look at the most alike of the others alone.
        projection: E, the numbers in which views are compared.
    """

    gradient: GradientConfig = field(default_factory=lambda: GradientConfig(batch_size=256))
    views: ViewConfig = field(default_factory=ViewConfig)
    temperature: float = 0.5
    projection: int = 128

    def __post_init__(self) -> None:
        allowed = {
            "temperature": (self.temperature > 0, "a number above 0"),
            "projection": (self.projection >= 1, "a whole number of at least 1"),
        }
        check_ranges("learn", self, allowed)
        # One picture has nothing to be told from, and its loss is 0 whatever is learned.
        check_ranges("gradient", self.gradient, {"batch_size": (self.gradient.batch_size >= 2, "at least 2 pictures")})


def learn(config: ContrastiveConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient(
        "image-feature-extraction", config.gradient, lambda job: _lesson(job, config, provider), divisible=False
    )


@final
class Projection(Model):
    """Where views are compared: `forward` takes "features" [N, D] and gives "projected" [N, E]."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes: D that it is given, E that it gives; its inside is as wide as what it is given."""

        inputs: int = 192
        outputs: int = 128

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.inside = nn.Linear(config.inputs, config.inputs, bias=False)
        self.norm_inside = nn.BatchNorm1d(config.inputs)
        self.out = nn.Linear(config.inputs, config.outputs)

    def forward(self, batch: Batch) -> Outputs:
        inside = F.relu(self.norm_inside(self.inside(batch["features"])))
        return {"projected": self.out(inside)}


def nt_xent(one_BE: Tensor, other_BE: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The normalised, temperature-scaled cross entropy of view pairs (Chen et al., equation 1), in float32.

    Args:
        one_BE: the projection of one view of each picture, of any length.
        other_BE: that of the other view.
        temperature: t.

    Returns:
        The loss summed over the 2 B views, and the share of views whose partner is the nearest of all.
    """
    B = len(one_BE)
    with torch.autocast(one_BE.device.type, enabled=False):
        z_NE = F.normalize(torch.cat((one_BE, other_BE)).float(), dim=1)
        itself = torch.eye(2 * B, dtype=torch.bool, device=z_NE.device)
        scores = (z_NE @ z_NE.T / temperature).masked_fill(itself, float("-inf"))
        partner_N = torch.arange(2 * B, device=z_NE.device).roll(B)
        total = F.cross_entropy(scores, partner_N, reduction="sum")
    return total, (scores.detach().argmax(1) == partner_N).float().mean()


def _lesson(job: Job, config: ContrastiveConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, PicturePrep)
    encoder = network(job, prep)
    _, last = encoder.stages()[-1]
    assert isinstance(last, nn.Linear), "the features are what a linear layer decides by"
    projection = Projection.Config(inputs=last.in_features, outputs=config.projection)

    def make(pictures_BCSS: Tensor, draw: torch.Generator) -> Batch:
        views = [prep.normalise(view(pictures_BCSS, config.views, draw)) for _ in range(2)]
        return {"views": torch.stack(views, dim=1)}

    def loss(nets: Nets, batch: Batch) -> Loss:
        views = batch["views"]
        features = nets["encoder"]({"image": views.flatten(0, 1)})["features"]
        projected = nets["projection"]({"features": features})["projected"].unflatten(0, (len(views), 2))
        total, nearest = nt_xent(projected[:, 0], projected[:, 1], config.temperature)
        return Loss(total, 2 * len(views), {"accuracy": nearest})

    return lesson_without_labels(
        job,
        config.gradient,
        provider,
        encoder=encoder,
        helper=("projection", drawn(job, lambda: Projection(projection))),
        make=make,
        loss=loss,
    )
