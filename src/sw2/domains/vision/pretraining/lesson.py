"""What both ways to learn from pictures without labels have in common.

An *encoder*, one of the domain's networks, learns together with a *helper* that gives it something to do: a decoder
that guesses hidden squares, or a projection in which views are compared. The program is the encoder alone.

    pictures uint8 [N, C, S, S] → `make` (augmented, normalised; hidden squares or views) → batch → `loss`

Choices: the last layer of the encoder, which is there for labels, learns nothing and has one output; a classifier that
starts from the program gets a new one. All draws of a step come from one generator, made of the seed and the step;
those of the validation pictures are the same at every look, so that its losses can be compared.

Not here: the losses (`masked`, `contrastive`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sw2.base.seed import derive, generator
from sw2.core.gradient import GradientConfig, Lesson, Loss, Nets, Player, Source
from sw2.core.model import Batch, Model
from sw2.core.objective import Job, Metrics
from sw2.core.program import Net, Program
from sw2.domains.vision.objective import parameter_names
from sw2.domains.vision.prep import PicturePrep
from sw2.domains.vision.pretraining.task import PictureEmbedder
from sw2.parts.data.order import ShuffledOrder

__all__ = ["drawn", "lesson_without_labels"]

Make = Callable[[Tensor, torch.Generator], Batch]


def drawn(job: Job, make: Callable[[], Model]) -> Model:
    """The helper that `make` makes, with weights that follow from the job's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(job.seed, "helper"))
        return make()


def lesson_without_labels(
    job: Job,
    gradient: GradientConfig,
    provider: Mapping[str, str],
    *,
    encoder: Model,
    helper: tuple[str, Model],
    make: Make,
    loss: Callable[[Nets, Batch], Loss],
) -> Lesson:
    """The lesson of an encoder and its helper.

    Args:
        job: its preprocessing is a PicturePrep.
        gradient: batches and optimiser.
        provider: the catalogue's name of the domain, for the program.
        encoder: what is kept.
        helper: its role and network; no parameter is called as one of the encoder's last layer.
        make: a batch of pictures, uint8 [B, C, S, S], and a generator to what the loss takes, a row a picture.
        loss: of "encoder" and the helper.
    """
    prep, (role, other) = job.prep, helper
    assert isinstance(prep, PicturePrep)
    *stages, last = parameter_names(encoder)
    others, idle = [name for name, _ in other.named_parameters()], frozenset(last)
    assert not idle & set(others), "a helper's parameter would be taken for one of the encoder's last layer"
    return Lesson(
        nets={"encoder": encoder, role: other},
        players=[Player(name="encoder", nets=("encoder", role), loss=loss, learns=lambda name: name not in idle)],
        source=_Pictures(prep.pictures(job.data.split("train")), gradient.batch_size, make, job.seed),
        validate=_validation(job, prep, gradient.batch_size, make, loss),
        assemble=lambda nets: Program.assemble(
            task=job.task,
            runtime=PictureEmbedder,
            nets={"encoder": Net(job.model_name, nets["encoder"])},
            prep=prep,
            provider=provider,
        ),
        items=("pictures", gradient.batch_size),
        stages={"encoder": stages, role: [others]},
    )


class _Pictures(Source):
    """Batches from all training pictures in memory."""

    def __init__(self, pictures_NCSS: Tensor, batch_size: int, make: Make, seed: int) -> None:
        self.pictures, self.make, self.seed = pictures_NCSS, make, seed
        self.order = ShuffledOrder(len(pictures_NCSS), batch_size, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        chosen_B = torch.from_numpy(self.order.indices(step))
        # Every process makes the whole batch, so that a picture gets the same draws however many share the work.
        whole = self.make(self.pictures[chosen_B], generator(self.seed, "without labels", step))
        return {name: tensor[rank::size] for name, tensor in whole.items()}

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()


def _validation(
    job: Job, prep: PicturePrep, batch_size: int, make: Make, loss: Callable[[Nets, Batch], Loss]
) -> Callable[[Mapping[str, Model]], Metrics] | None:
    """The function that computes loss and metrics on the validation split; None when there is none."""
    if "validation" not in job.data.splits:
        return None
    pictures_NCSS = prep.pictures(job.data.split("validation"))

    def validate(nets: Mapping[str, Model]) -> Metrics:
        sums: dict[str, float] = {"loss": 0.0}
        count = 0.0
        for start in range(0, len(pictures_NCSS), batch_size):
            batch = make(pictures_NCSS[start : start + batch_size], generator(job.seed, "validation", start))
            found = loss(nets, {name: tensor.to(job.device) for name, tensor in batch.items()})
            count += found.count
            sums["loss"] += float(found.total)
            for name, value in found.metrics.items():
                sums[name] = sums.get(name, 0.0) + float(value) * found.count
        return {name: total / count for name, total in sums.items()}

    return validate
