"""Image segmentation, prompted: which pixels belong to the thing that was clicked at?

Shapes: N pictures, H height, W width, S pixels a side as the network sees them, P prompts, M = 3 masks.

    {"image", "points": [[x, y, 1], …], "box": [left, top, right, bottom]}, in pixels of the picture, 1 for "this" and 0
    for "not this" -> the whole picture in a square of S (PicturePrep) -> a network's masks -> the one with the best
    score, at the picture's size -> {"mask": PNG, "score": the IoU it is thought to have, "box": around it}

Prompts are told to the network one after the other, the box first, each beside its last answer, as it learned. Where
what is found is small in the picture, the part around it is looked at again, larger, and all is told once more.

Judged is the mean IoU after 1, 3 and 5 clicks, each further click at the middle of the largest error (`clicks`), and
after a box; all in the square that the network sees, looked at once. Beside the mask that its score chooses stands the
best of the three, which only someone who knows the object could choose. Baselines get the same clicks: a disc of a
quarter of the square, and the pixels of alike colour that hang together with a click.

Source of the name: the tasks of Hugging Face, https://huggingface.co/tasks/image-segmentation; of the shape, Kirillov
et al. 2023, https://arxiv.org/abs/2304.02643.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sw2.base.config import check_ranges, check_shares, replace
from sw2.base.errors import DataError, UsageError
from sw2.core.capabilities import Segment
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model, Outputs
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Prep, Score, Task
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.domains.vision.segmentation.clicks import iou, next_click
from sw2.domains.vision.segmentation.data import mask_of, read_masked, stamps
from sw2.domains.vision.segmentation.network import BOX, NEGATIVE, POSITIVE, STRIDE
from sw2.parts.metrics.intervals import bootstrap
from sw2.parts.prep.pictures import read_picture, resize

__all__ = [
    "CLICKS",
    "Answers",
    "ClickSegmenter",
    "ImageSegmentation",
    "SegmentationOptions",
    "clicked",
    "closer",
    "pictures_seen",
    "squared",
]

CLICKS: Final = 5
_REPORTED: Final = (3, 1, 5)
_AT_ONCE: Final = 32
_ALIKE: Final = 30.0  # grey values of Euclidean distance in colour

_AROUND: Final = 2.0
_MOST_OF: Final = 0.6

Click = tuple[int, int, int]
Prompt = tuple[float, float, int]  # x, y in pixels, label


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions:
    """How the data is read.

    Args:
        test, validation: scenes made for judging and for watching, of the named set.
        test_share, validation_share: shares of the pictures of a folder that are held out.
        split_seed: another number, another division, and other scenes.
    """

    test: int = 200
    validation: int = 64
    test_share: float = 0.2
    validation_share: float = 0.05
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_shares("data", self, "test_share", "validation_share")
        allowed = {name: (getattr(self, name) >= 0, "a whole number of at least 0") for name in ("test", "validation")}
        check_ranges("data", self, allowed)


@final
class Answers:
    """What a network says of pictures to more and more prompts; the pictures are looked at once.

    Args:
        net: a Segmenter.
        image_B3SS: pictures, normalised.
    """

    def __init__(self, net: Model, image_B3SS: Tensor) -> None:
        with torch.inference_mode():
            self.net, self.seen = net, net({"image": image_B3SS})
        side = image_B3SS.shape[-1] // STRIDE
        self.mask_Bss = torch.zeros(len(image_B3SS), side, side)
        self.masked = False

    def to(self, points_BP2: Tensor, labels_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, M, S/2, S/2] and scores [B, M] for all prompts so far, the last answer beside them.

        Args:
            points_BP2: x and y, divided by S.
            labels_BP: int64, see `network`.
        """
        given: Outputs = {
            "points": points_BP2,
            "labels": labels_BP,
            "mask": self.mask_Bss,
            "masked": torch.full((len(labels_BP),), self.masked),
        }
        with torch.inference_mode():
            outputs = self.net({**self.seen, **given})
        self.mask_Bss, self.masked = best(outputs["masks"], outputs["scores"]), True
        return outputs["masks"], outputs["scores"]


def best(masks_BMss: Tensor, scores_BM: Tensor) -> Tensor:
    """Of each picture the mask with the highest score."""
    return masks_BMss[torch.arange(len(masks_BMss)), scores_BM.argmax(1)]


@final
class ClickSegmenter(Runtime, Segment):
    """Answers clicks and boxes with a mask."""

    name = "click-segmenter"
    Prep = PicturePrep

    def __init__(self, nets: Mapping[str, Model], prep: PicturePrep, uses: Mapping[str, Program]) -> None:
        del uses
        self.net, self.prep = nets["segmenter"], prep

    def segment(
        self, image: Any, points: Sequence[Sequence[float]] = (), box: Sequence[float] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        picture_HW3 = read_picture(image, 3)
        told = _rounds(points, box, picture_HW3.shape[:2])
        masks, scores = self._seen(picture_HW3, told)
        if (part := closer(masks[0], [place for group in told for place in group])) is not None:
            top, left = (along.start for along in part)
            moved = [[(x - left, y - top, label) for x, y, label in group] for group in told]
            parts, scores = self._seen(np.ascontiguousarray(picture_HW3[part]), moved)
            masks = np.zeros_like(masks)
            masks[:, *part] = parts
        return masks, scores

    def _seen(self, picture_HW3: np.ndarray, told: Sequence[Sequence[Prompt]]) -> tuple[np.ndarray, np.ndarray]:
        """Masks [M, H, W] and scores [M] of the whole of a picture, best first."""
        size = picture_HW3.shape[:2]
        square = resize(torch.from_numpy(picture_HW3).permute(2, 0, 1), (self.side, self.side), "pad")
        answers = Answers(self.net, self.prep.normalise(square[None]))
        prompts: list[Prompt] = []
        for group in told:
            prompts += group
            places = [_into_square(x, y, size, self.side) for x, y, _ in prompts]
            masks, scores = answers.to(torch.tensor([places]), torch.tensor([[label for *_, label in prompts]]))
        order_M = scores[0].argsort(descending=True)
        return _out_of_square(masks[0, order_M], size), scores[0, order_M].clamp(0, 1).numpy()

    @property
    def side(self) -> int:
        """S."""
        return self.prep.config.size

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        found: list[Answer] = []
        for raw in inputs:
            if not isinstance(raw, Mapping) or "image" not in raw:
                raise UsageError(
                    "A picture alone says not which thing is meant.",
                    wanted='{"image": …, "points": [[x, y, 1]]} or "box" in place of points',
                    got=type(raw).__name__,
                )
            masks, scores = self.segment(raw["image"], raw.get("points") or (), raw.get("box") or ())
            found.append({"mask": _png(masks[0]), "score": float(scores[0]), "box": _around(masks[0])})
        return found


def closer(mask_HW: np.ndarray, prompts: Sequence[Prompt]) -> tuple[slice, slice] | None:
    """The part of a picture to look at again, rows and columns: twice as long as what was masked, with all prompts.

    None where that is most of the picture, or nothing was masked.
    """
    if not mask_HW.any():
        return None
    left, top, right, bottom = _around(mask_HW)
    xs, ys = ([place[axis] for place in prompts] for axis in (0, 1))
    low = np.array([min(top, *ys), min(left, *xs)])
    high = np.array([max(bottom, *ys), max(right, *xs)])
    half = _AROUND / 2 * max(high - low)
    if 2 * half > _MOST_OF * max(mask_HW.shape):
        return None
    middle, size = (low + high) / 2, np.array(mask_HW.shape)
    first = np.clip(np.floor(middle - half), 0, size).astype(int)
    last = np.clip(np.ceil(middle + half), 0, size).astype(int)
    rows, columns = (slice(int(start), int(stop)) for start, stop in zip(first, last, strict=True))
    return rows, columns


def _rounds(points: Any, box: Any, size: tuple[int, int]) -> list[list[Prompt]]:
    """The prompts in the order in which they are told, checked: (x, y, label), those of one time together.

    Raises:
        UsageError: there is no prompt that says "this", or one is no place of the picture.
    """
    height, width = size

    def numbers(values: Any, count: int, what: str, example: str) -> list[float]:
        plain = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count
        if not plain or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            raise UsageError(f"This is no {what}.", where=what, wanted=example, got=repr(values))
        return [float(value) for value in values]

    if isinstance(points, str) or not isinstance(points, Sequence):
        raise UsageError("These are no clicks.", where="points", wanted="[[x, y, 1], …]", got=repr(points))
    clicks = [numbers(point, 3, "click", "[x, y, 1], or [x, y, 0] for what is not meant") for point in points]
    for x, y, label in clicks:
        if not (0 <= x < width and 0 <= y < height) or label not in (POSITIVE, NEGATIVE):
            raise UsageError(
                "This click is not in the picture." if label in (POSITIVE, NEGATIVE) else "This click says neither.",
                where="points",
                wanted=f"x below {width}, y below {height}, neither below 0; then 1 for this, 0 for not this",
                got=[x, y, label],
            )
    told = [[(x, y, int(label))] for x, y, label in sorted(clicks, key=lambda click: -click[2])]
    if len(box):
        left, top, right, bottom = numbers(box, 4, "box", "[left, top, right, bottom]")
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise UsageError(
                "This box is not in the picture, or its corners are in the wrong order.",
                where="box",
                wanted=f"0 <= left < right <= {width}, 0 <= top < bottom <= {height}",
                got=[left, top, right, bottom],
            )
        return [[(left, top, BOX[0]), (right, bottom, BOX[1])], *told]
    if not told or told[0][0][2] != POSITIVE:
        raise UsageError(
            "Nothing says which thing is meant.",
            where="points",
            wanted="a click on it, [x, y, 1], or a box around it",
            got="no prompt" if not told else "clicks on what is not meant alone",
            do='Say points="[[x, y, 1]]" or box="[left, top, right, bottom]".',
        )
    return told


def _into_square(x: float, y: float, size: tuple[int, int], side: int) -> tuple[float, float]:
    """A place of a picture in the square that holds all of it, divided by the square's side."""
    height, width = size
    scale = max(size) / side
    return ((x - width / 2) / scale / side + 0.5, (y - height / 2) / scale / side + 0.5)


def _out_of_square(masks_Mss: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Logits of a square as masks of the picture, bool [M, H, W]: bilinear between the middles of their pixels."""
    height, width = size
    y = ((torch.arange(height) + 0.5) - height / 2) / max(size) * 2
    x = ((torch.arange(width) + 0.5) - width / 2) / max(size) * 2
    grid_HW2 = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
    spread = F.grid_sample(masks_Mss[None], grid_HW2[None], padding_mode="border", align_corners=False)
    mask: np.ndarray = (spread[0] > 0).numpy()
    return mask


def squared(example: Example, side: int) -> np.ndarray:
    """The mask of an example in the square that the network sees: bool [S, S]."""
    whole = torch.from_numpy(mask_of(example).astype(np.float32))
    small: np.ndarray = (resize(whole, (side, side), "pad") >= 0.5).numpy()
    return small


def _png(mask_HW: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(mask_HW.astype(np.uint8) * 255).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _around(mask_HW: np.ndarray) -> list[int]:
    """[left, top, right, bottom] around a mask; right and bottom are the first that is no part. [] around nothing."""
    if not mask_HW.any():
        return []
    xs, ys = np.flatnonzero(mask_HW.any(0)), np.flatnonzero(mask_HW.any(1))
    return [int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1]


@final
class ImageSegmentation(Task):
    """The task at the top of this file."""

    name = "image-segmentation"
    inputs = {
        "image": Kind("image", "uint8", ("height", "width", "channels")),
        "points": Kind("record", default="", about="clicks in pixels, [[x, y, 1], …]; 0 for what is not meant"),
        "box": Kind("record", default="", about="[left, top, right, bottom] in pixels"),
    }
    outputs = {
        "mask": Kind("image", "bool", ("height", "width"), about="white where the thing is"),
        "score": Kind("number", about="how good the mask is thought to be: the IoU"),
        "box": Kind("record", about="[left, top, right, bottom] around the mask"),
    }
    metric: ClassVar[str] = "mean IoU after 3 clicks"
    runtime: ClassVar[str] = ClickSegmenter.name
    Options = SegmentationOptions

    def read(self, source: str, options: SegmentationOptions, context: Context) -> Data:
        path = Path(source)
        if path.is_dir():
            shares = {"test": options.test_share, "validation": options.validation_share}
            return read_masked(path, {name: share for name, share in shares.items() if share > 0}, options.split_seed)
        if source == "stamps":
            return stamps(context.confirm, test=options.test, validation=options.validation, seed=options.split_seed)
        raise UsageError(
            "There is no such data.", where=source, wanted="a folder with images and masks, or stamps", got=source
        )

    def question(self, example: Example) -> Any:
        """The picture with the first click of the protocol."""
        mask = mask_of(example)
        x, y, label = next_click(mask, np.zeros_like(mask))
        return {"image": example["image"], "points": [[x, y, label]]}

    def check(self, data: Data) -> CheckReport:
        facts: dict[str, Any] = {}
        for name, split in data.splits.items():
            kinds = {kind: sum(kind in example for example in split) for kind in ("mask", "thing", "photo")}
            facts[name] = ", ".join(f"{n} {_PLURAL[kind]}" for kind, n in kinds.items() if n)
        notes = [f"skipped {row.where}: {row.why}" for row in data.rejected[:20]]
        return CheckReport(facts=facts, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> PicturePrep:
        if not train:
            raise DataError("There are no pictures to learn from.", wanted="pictures with masks", got="none")
        fits = config.fit == "pad" and config.zoom == 1 and config.channels == 3 and len(config.mean) == 3
        if not fits or config.size % 16 or config.size < 32:
            raise UsageError(
                "These settings do not fit this task.",
                where="prep",
                wanted="fit = pad, zoom = 1, 3 channels with mean and deviation, size a multiple of 16 from 32 on",
                got=config,
            )
        return PicturePrep(config, ())

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        runtime = program.capability(ClickSegmenter)
        by_clicks_N5: list[list[float]] = []
        best_N5: list[list[float]] = []
        boxed_N: list[float] = []
        for start in range(0, len(held_out), _AT_ONCE):
            some = held_out[start : start + _AT_ONCE]
            image = runtime.prep.normalise(torch.stack([runtime.prep.picture(example["image"]) for example in some]))
            targets = [squared(example, runtime.side) for example in some]
            kept = [number for number, target in enumerate(targets) if target.any()]
            targets, image = [targets[number] for number in kept], image[kept]
            if not kept:
                continue
            chosen, oracle = _by_clicks(Answers(runtime.net, image), targets)
            by_clicks_N5 += chosen
            best_N5 += oracle
            boxed_N += _by_box(Answers(runtime.net, image), targets)
        if not boxed_N:
            raise DataError(
                "All objects are smaller than a pixel as the network sees them.", wanted="larger objects", got="none"
            )
        found, oracle_N5 = np.array(by_clicks_N5), np.array(best_N5)
        first, *others = (_score(_after(n), found[:, n - 1], "program", context.seed) for n in _REPORTED)
        return [
            replace(first, details={**first.details, "clicks": found.tolist()}),
            *others,
            _score("mean IoU after a box", np.array(boxed_N), "program", context.seed),
            *(
                _score(f"{_after(n)}, best of three", oracle_N5[:, n - 1], "program", context.seed)
                for n in sorted(_REPORTED)
            ),
        ]

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        assert isinstance(prep, PicturePrep)
        ways: Mapping[str, Callable[[np.ndarray, Sequence[Click]], np.ndarray]] = {
            "a disc around the clicks": _disc,
            "pixels of alike colour": _alike,
        }
        scores = []
        for name, way in ways.items():
            found = np.array([
                clicked(target, lambda clicks, image=image, way=way: way(image, clicks))  # type: ignore[misc]
                for image, target in pictures_seen(data.split("test"), prep)
            ])  # fmt: skip
            scores += [_score(_after(n), found[:, n - 1], name, context.seed) for n in _REPORTED]
        return scores


_PLURAL: Final = {"mask": "objects in pictures", "thing": "cut-outs", "photo": "photographs"}


def _after(clicks: int) -> str:
    return f"mean IoU after {clicks} click{'s' if clicks > 1 else ''}"


def _score(name: str, values_N: np.ndarray, of: str, seed: int) -> Score:
    details = {"cases": values_N.tolist()} if of == "program" else {}
    found = bootstrap(values_N, seed=seed)
    return Score.estimated(name, found, better="higher", examples=len(values_N), of=of, details=details)


def _by_clicks(answers: Answers, targets: Sequence[np.ndarray]) -> tuple[list[list[float]], list[list[float]]]:
    """The IoU after each click of each picture: of the mask that the score chooses, and of the best."""
    side = targets[0].shape[0]
    clicks: list[list[Click]] = [[] for _ in targets]
    chosen: list[list[float]] = [[] for _ in targets]
    oracle: list[list[float]] = [[] for _ in targets]
    present = [np.zeros_like(target) for target in targets]
    for _ in range(CLICKS):
        for own, target, mask in zip(clicks, targets, present, strict=True):
            own.append(next_click(target, mask))
        prompts_BP3 = torch.tensor(clicks)
        masks, scores = answers.to((prompts_BP3[..., :2] + 0.5) / side, prompts_BP3[..., 2])
        found = (F.interpolate(masks, scale_factor=float(STRIDE), mode="bilinear") > 0).numpy()
        for number, (target, best_M) in enumerate(zip(targets, scores.argmax(1).tolist(), strict=True)):
            values = [iou(mask, target) for mask in found[number]]
            chosen[number].append(values[best_M])
            oracle[number].append(max(values))
            present[number] = found[number, best_M]
    return chosen, oracle


def _by_box(answers: Answers, targets: Sequence[np.ndarray]) -> list[float]:
    """The IoU of each picture after the box around its object."""
    side = targets[0].shape[0]
    corners_B22 = torch.tensor([_around(target) for target in targets]).view(-1, 2, 2) / side
    masks, scores = answers.to(corners_B22, torch.tensor(BOX).expand(len(targets), 2))
    found = F.interpolate(best(masks, scores)[:, None], scale_factor=float(STRIDE), mode="bilinear")[:, 0] > 0
    return [iou(mask, target) for mask, target in zip(found.numpy(), targets, strict=True)]


def clicked(target_HW: np.ndarray, answer: Callable[[Sequence[Click]], np.ndarray]) -> list[float]:
    """The IoU after each of five clicks of the protocol, for anything that answers clicks with a mask."""
    clicks: list[Click] = []
    mask_HW, found = np.zeros_like(target_HW), []
    for _ in range(CLICKS):
        clicks.append(next_click(target_HW, mask_HW))
        mask_HW = answer(clicks)
        found.append(iou(mask_HW, target_HW))
    return found


def pictures_seen(held_out: Split, prep: PicturePrep) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures uint8 [S, S, 3] and masks as the network sees them, without those of which nothing is left."""
    for example in held_out:
        target = squared(example, prep.config.size)
        if target.any():
            image = prep.picture(example["image"]).round().clamp(0, 255).to(torch.uint8)
            yield image.permute(1, 2, 0).numpy(), target


def _disc(image_SS3: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
    """What is nearer to a positive click than an eighth of the side, and not nearer to a negative one."""
    side = image_SS3.shape[0]
    y, x = np.mgrid[:side, :side]
    near = {POSITIVE: np.full((side, side), side / 8), NEGATIVE: np.full((side, side), np.inf)}
    for left, top, label in clicks:
        near[label] = np.minimum(near[label], np.hypot(x - left, y - top))
    inside: np.ndarray = (near[POSITIVE] < side / 8) & (near[POSITIVE] < near[NEGATIVE])
    return inside


def _alike(image_SS3: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
    """What hangs together with a positive click in colours like its own, less the same of negative ones."""
    from scipy.ndimage import label as components

    mask = {POSITIVE: np.zeros(image_SS3.shape[:2], bool), NEGATIVE: np.zeros(image_SS3.shape[:2], bool)}
    for x, y, label in clicks:
        distance = np.linalg.norm(image_SS3.astype(float) - image_SS3[y, x], axis=2)
        numbered, _ = components(distance < _ALIKE)
        mask[label] |= numbered == numbered[y, x]
    grown: np.ndarray = mask[POSITIVE] & ~mask[NEGATIVE]
    return grown
