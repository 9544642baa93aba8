"""How a segmenter is learned: a click or a box first, then further clicks where it is wrong, several in one step.

Shapes: B pictures, K prompts of each, X = BK, S pixels a side, s = S / 2 of a mask, R rounds, P = R + 1 prompts, M = 3
masks.

    scene or picture with the masks of its objects -> K times, of the objects in turn: a click deep in the object, or
                                                      (every fourth time) a box around it
    R times: masks and scores -> loss -> the mask with the best score, and a click deep in what it has wrong

    loss: normalised focal + dice of the mask of three that has the least, from the second round on half of that and
          half of the mean of all three; plus the squared error of the three scores; mean over the rounds

Choices: the picture is seen once for all prompts and rounds, as it is in use, and that is where most of the time went.
All is computed at the masks' size, with the share of each pixel that is the object's as target. A box's corners are
moved at random by up to a tenth of its sides, at most 20 pixels, as in the paper. After one click only the best of
three masks learns, so that they may come to mean different things; further clicks leave less to be meant, so all learn
then, and less is lost where the score picks the wrong one. Things and photographs come in three colourings. A click is
drawn with a number from the batch, so a step is a function of its number.

From ImageNet's weights, the first stages stay as they are: edges and textures are known, and no gradient has to be
taken through the largest maps. fp32, as these small convolutions are slower in bf16 on a processor, though its matrix
products are faster.

Sources: Kirillov et al. 2023, https://arxiv.org/abs/2304.02643, section 3 and appendix A ("Training algorithm");
normalised focal loss: Sofiiuk et al. 2019 (AdaptIS), https://arxiv.org/abs/1909.07829, with γ = 2, over
soft targets as the distance from them; dice: Milletari et al. 2016, https://arxiv.org/abs/1606.04797, section 3.

Not here: the paper's rounds without a new click.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.base.errors import DataError, UsageError
from sw2.base.seed import numpy_generator
from sw2.core.data import Split
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets, Player, Source
from sw2.core.model import Batch, Model
from sw2.core.objective import Job, Metrics
from sw2.core.program import Net, Program
from sw2.domains.vision.objective import network, parameter_names
from sw2.domains.vision.prep import PicturePrep
from sw2.domains.vision.segmentation.clicks import random_clicks
from sw2.domains.vision.segmentation.cutouts import blemished, read_photo, read_thing, recoloured, scene
from sw2.domains.vision.segmentation.network import BOX, NOTHING, SEEN, STRIDE
from sw2.domains.vision.segmentation.task import ClickSegmenter, best, squared
from sw2.parts.data.order import ShuffledOrder

__all__ = ["ClickConfig", "learn", "mask_losses", "rounds_loss"]

_GAMMA: Final = 2.0
_MOVED: Final = 0.1  # of a box's sides, the most that a corner moves
_MOVED_PIXELS: Final = 20.0

Picture = tuple[np.ndarray, Sequence[np.ndarray]]  # uint8 [S, S, 3], and bool [S, S] of each object


@dataclass(frozen=True, kw_only=True)
class ClickConfig:
    """How a segmenter is learned.

    Args:
        gradient: batches, optimiser, precision; see `core.gradient`.
        rounds: R, answers in a row to one prompt.
        prompts: K, how often a picture is asked about in a step, of its objects in turn.
        boxes: share of the prompts that begin with a box, not a click.
        frozen: the encoder's stem and so many of its stages less one do not learn; 0, all of it learns.
        smallest: of things in scenes, along their longer side as a share of the scene's.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    rounds: int = 3
    prompts: int = 2
    boxes: float = 0.25
    frozen: int = 0
    smallest: float = 0.12

    def __post_init__(self) -> None:
        allowed = {
            "rounds": (self.rounds >= 1, "a whole number of at least 1"),
            "prompts": (self.prompts >= 1, "a whole number of at least 1"),
            "frozen": (0 <= self.frozen <= 6, "a whole number from 0 to 6"),
            "smallest": (0.05 <= self.smallest <= 0.5, "a number from 0.05 to 0.5"),
            "boxes": (0 <= self.boxes <= 1, "a number from 0 to 1"),
        }
        check_ranges("learn", self, allowed)


def learn(config: ClickConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient("image-segmentation", config.gradient, lambda job: _lesson(job, config, provider))


def mask_losses(masks_XMss: Tensor, target_Xss: Tensor) -> Tensor:
    """Normalised focal loss + dice of each mask.

    Args:
        masks_XMss: logits.
        target_Xss: float, the share of each pixel that the object takes.

    Returns:
        float32 [X, M].
    """
    logits, target = masks_XMss.float(), target_Xss[:, None].float().expand_as(masks_XMss)
    missed = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    weight = (p.detach() - target).abs() ** _GAMMA
    focal_XM = (weight * missed).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1)
    dice_XM = 1 - (2 * (p * target).sum((2, 3)) + 1) / (p.sum((2, 3)) + target.sum((2, 3)) + 1)
    return focal_XM + dice_XM


def rounds_loss(net: Callable[[Batch], Mapping[str, Tensor]], batch: Batch, rounds: int) -> Loss:
    """The loss at the top of this file, summed over the pictures' prompts.

    Args:
        net: a Segmenter.
        batch: "image" [B, 3, S, S]; "target" bool [B, K, S, S]; "points" [B, K, P, 2] and "labels" [B, K, P] with a
            box or a click, or nothing yet, in the first two places; "draws" [B, K, R] in [0, 1).
        rounds: R.
    """
    share_Xss = F.avg_pool2d(batch["target"].flatten(0, 1).float()[:, None], STRIDE)[:, 0]
    target_Xss = share_Xss >= 0.5 * share_Xss.amax((1, 2), keepdim=True)
    points_XP2, labels_XP = batch["points"].flatten(0, 1).clone(), batch["labels"].flatten(0, 1).clone()
    draws_XR, X = batch["draws"].flatten(0, 1), len(target_Xss)
    each = torch.arange(X, device=target_Xss.device)
    fresh_X = labels_XP[:, 0] == NOTHING
    clicks_X2, found_X = random_clicks(target_Xss, torch.zeros_like(target_Xss), draws_XR[:, 0])
    points_XP2[:, 0] = torch.where(fresh_X[:, None], clicks_X2, points_XP2[:, 0])
    labels_XP[:, 0] = torch.where(fresh_X, found_X, labels_XP[:, 0])

    mask_Xss = torch.zeros_like(share_Xss)
    seen: Mapping[str, Tensor] = {"image": batch["image"]}
    total, metrics = share_Xss.new_zeros(()), {}
    for number in range(rounds):
        masked_X = torch.full((X,), number > 0, device=mask_Xss.device)
        given = {"points": points_XP2.clone(), "labels": labels_XP.clone(), "mask": mask_Xss, "masked": masked_X}
        outputs = net({**seen, **given})
        seen = {name: outputs[name] for name in SEEN}
        found_XMss = outputs["masks"].detach() > 0
        union_XM = (found_XMss | target_Xss[:, None]).sum((2, 3))
        iou_XM = (found_XMss & target_Xss[:, None]).sum((2, 3)) / union_XM.clamp(min=1)
        loss_XM = mask_losses(outputs["masks"], share_Xss)
        total = total + loss_XM.amin(1).sum()
        if number:
            total = total + (loss_XM.mean(1) - loss_XM.amin(1)).sum() / 2
        total = total + (outputs["scores"] - iou_XM).square().mean(1).sum()
        chosen_X = outputs["scores"].detach().argmax(1)
        if number in (0, rounds - 1):
            metrics[f"iou{number + 1}"] = iou_XM[each, chosen_X].mean()
        mask_Xss = best(outputs["masks"].detach(), outputs["scores"].detach())
        if number < rounds - 1:
            points_XP2[:, number + 2], labels_XP[:, number + 2] = random_clicks(
                target_Xss, mask_Xss > 0, draws_XR[:, number + 1]
            )
    return Loss(total / rounds, X, metrics)


def _boxed(target_SS: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The corners of a box around an object that somebody drew with an unsteady hand: [2, 2], divided by S."""
    ys, xs = np.nonzero(target_SS)
    corners = np.array([[xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1]], np.float32)
    reach = np.minimum(_MOVED * (corners[1] - corners[0]), _MOVED_PIXELS)
    side = target_SS.shape[0]
    boxed: np.ndarray = np.clip(corners + draw.uniform(-1, 1, (2, 2)) * reach, 0, side) / side
    return boxed


def _batch(pictures: Sequence[Picture], prep: PicturePrep, config: ClickConfig, draw: np.random.Generator) -> Batch:
    shape = (len(pictures), config.prompts)
    points = np.zeros((*shape, config.rounds + 1, 2), np.float32)
    labels = np.full((*shape, config.rounds + 1), NOTHING, np.int64)
    targets = np.stack([[masks[k % len(masks)] for k in range(config.prompts)] for _, masks in pictures])
    for place in np.ndindex(shape):
        if draw.random() < config.boxes:
            points[place][:2], labels[place][:2] = _boxed(targets[place], draw), BOX
    image = torch.from_numpy(np.stack([image for image, _ in pictures])).permute(0, 3, 1, 2)
    return {
        "image": prep.normalise(image),
        "target": torch.from_numpy(targets),
        "points": torch.from_numpy(points),
        "labels": torch.from_numpy(labels),
        "draws": torch.from_numpy(draw.random((*shape, config.rounds), np.float32)),
    }


class _Scenes(Source):
    """A new scene of cut-outs and photographs for each picture of each batch."""

    def __init__(self, train: Split, prep: PicturePrep, config: ClickConfig, seed: int) -> None:
        things = [read_thing(example["thing"]) for example in train if "thing" in example]
        self.things = recoloured(thing for thing in things if thing is not None)
        self.photos = recoloured(read_photo(example["photo"]) for example in train if "photo" in example)
        self.prep, self.config, self.seed = prep, config, seed

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        number, side = self.config.gradient.batch_size, self.prep.config.size

        def draw(*names: int) -> np.random.Generator:
            return numpy_generator(self.seed, "scene", *names)

        pictures = [
            scene(self.things, self.photos, side, draw(step, place), self.config.smallest)
            for place in range(rank, number, size)
        ]
        return _batch(pictures, self.prep, self.config, numpy_generator(self.seed, "prompts", step, rank))

    def steps_per_epoch(self) -> float:
        """Steps until as many scenes were made as there are things, in three colours each."""
        return len(self.things) / self.config.gradient.batch_size


class _Masked(Source):
    """Batches of pictures that have masks, mirrored and blemished at random."""

    def __init__(self, pictures: Sequence[Picture], prep: PicturePrep, config: ClickConfig, seed: int) -> None:
        self.pictures, self.prep, self.config, self.seed = pictures, prep, config, seed
        self.order = ShuffledOrder(len(pictures), config.gradient.batch_size, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        pictures = []
        for place, chosen in enumerate(self.order.indices(step)[rank::size]):
            draw = numpy_generator(self.seed, "picture", step, rank + place * size)
            image, (target,) = self.pictures[int(chosen)]
            mirrored = slice(None, None, -1 if draw.random() < 0.5 else 1)
            image = blemished(Image.fromarray(np.ascontiguousarray(image[:, mirrored])), draw)
            pictures.append((image, [np.ascontiguousarray(target[:, mirrored])]))
        return _batch(pictures, self.prep, self.config, numpy_generator(self.seed, "prompts", step, rank))

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()


def _squares(split: Split, prep: PicturePrep) -> list[Picture]:
    """The pictures with masks as the network sees them, without objects of which nothing is left."""
    made: list[Picture] = []
    for example in split:
        if (target := squared(example, prep.config.size)).any():
            image = prep.picture(example["image"]).round().clamp(0, 255).to(torch.uint8)
            made.append((image.permute(1, 2, 0).numpy(), [target]))
    return made


def _lesson(job: Job, config: ClickConfig, provider: Mapping[str, str]) -> Lesson:
    prep, train = job.prep, job.data.split("train")
    assert isinstance(prep, PicturePrep)
    start = job.parents.get("start")
    net = start.thaw()["segmenter"] if start is not None and "segmenter" in start.nets else network(job, prep)
    if net.config != job.model_config:
        raise UsageError(
            "The program to start from has another shape.", where="model", wanted=net.config, got=job.model_config
        )
    source: Source
    if any("thing" in example for example in train):
        source = _Scenes(train, prep, config, job.seed)
    elif pictures := _squares(train, prep):
        source = _Masked(pictures, prep, config, job.seed)
    else:
        raise DataError(
            "All objects are smaller than a pixel as the network sees them.", wanted="larger objects", got="none"
        )

    held = tuple(f"{name}." for name in ("stem", *(f"body.{n}" for n in range(5)))[: config.frozen])

    def loss(nets: Nets, batch: Batch) -> Loss:
        return rounds_loss(nets["segmenter"], batch, config.rounds)

    return Lesson(
        nets={"segmenter": net},
        players=[
            Player(name="segmenter", nets=("segmenter",), loss=loss, learns=lambda name: not name.startswith(held))
        ],
        source=source,
        validate=_validation(job, prep, config),
        assemble=lambda nets: Program.assemble(
            task=job.task,
            runtime=ClickSegmenter,
            nets={role: Net(job.model_name, module) for role, module in nets.items()},
            prep=prep,
            provider=provider,
        ),
        items=("pictures", config.gradient.batch_size),
        stages={"segmenter": parameter_names(net)},
    )


def _validation(job: Job, prep: PicturePrep, config: ClickConfig) -> Callable[[Mapping[str, Model]], Metrics] | None:
    """Loss and IoU on the validation split, with the same prompts at every look; None when there is none."""
    pictures = _squares(job.data.splits.get("validation", ()), prep)
    if not pictures:
        return None

    def validate(nets: Mapping[str, Model]) -> Metrics:
        sums: dict[str, float] = {}
        for start in range(0, len(pictures), config.gradient.batch_size):
            some = pictures[start : start + config.gradient.batch_size]
            batch = _batch(some, prep, config, numpy_generator(job.seed, "validation", start))
            found = rounds_loss(nets["segmenter"], {k: v.to(job.device) for k, v in batch.items()}, config.rounds)
            values = {"loss": found.total / found.count, **found.metrics}
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(some)
        return {name: total / len(pictures) for name, total in sums.items()}

    return validate
