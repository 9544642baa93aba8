"""Segmentation by clicks as a whole: from a folder of masks to a program that answers clicks, and what it refuses."""

from __future__ import annotations

import base64
import importlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion
from typer.testing import CliRunner, Result

from sw2.base.errors import DataError, Sw2Error, UsageError
from sw2.base.seed import numpy_generator
from sw2.catalog import catalog
from sw2.core.capabilities import Segment
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.vision.segmentation.clicks import iou
from sw2.domains.vision.segmentation.cutouts import scene
from sw2.domains.vision.segmentation.data import mask_of, read_masked
from sw2.domains.vision.segmentation.lesson import rounds_loss
from sw2.domains.vision.segmentation.network import NOTHING, POSITIVE, Segmenter
from sw2.domains.vision.segmentation.task import (
    Answers,
    ImageSegmentation,
    SegmentationOptions,
    best,
    clicked,
    closer,
    squared,
)
from sw2.faces.cli import app
from sw2.verbs.train import Order, train

PICTURES, STEPS = 14, 2
SHARES = {"test": 0.2, "validation": 0.1}
QUICK = (
    *("trainer.evaluations=1", "trainer.health=off", "learn.gradient.precision=fp32", "prep.size=32"),
    *("learn.gradient.batch_size=2", "learn.rounds=2"),
)


def _written(folder: Path, number: int, *, size: tuple[int, int] = (48, 40)) -> None:
    """A bright disc on noise with its mask, and a square beside it as a second object."""
    draw = np.random.default_rng(number)
    width, height = size
    image = draw.integers(0, 90, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    mask[np.hypot(x - draw.integers(12, 20), y - 18) < 8] = 1
    mask[28:38, 28:44] = 2
    image[mask == 1] = (230, 200, 60)
    image[mask == 2] = (60, 120, 240)
    for name, values in (("images", image), ("masks", mask)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(PICTURES):
        _written(folder, number)
    return folder


def _train(data: Path, out: Path, steps: int = STEPS, **order: Any) -> Program:
    wanted = Order(
        task="image-segmentation",
        data=str(data),
        preset="tiny",
        budget=Budget(steps=steps),
        settings=list(QUICK),
        device="cpu",
        **order,
    )
    return train(catalog(), wanted, out, Context())


@pytest.fixture(scope="module")
def program(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """One for all tests, of two steps: none of them asks how well it answers."""
    return _train(pictures, tmp_path_factory.mktemp("run") / "run")


def test_a_fixed_batch_is_learned_and_the_click_decides_which_thing_is_meant() -> None:
    """Every picture stands there twice, with a click on the one and on the other of two things that look alike."""
    side, rows = 64, []
    y, x = np.mgrid[:side, :side]
    draw = np.random.default_rng(0)
    for number in range(2):
        disc = np.hypot(x - 16 - 4 * number, y - 20) < 10
        square = (y >= 36) & (y < 56) & (x >= 36 - 8 * number) & (x < 58 - 8 * number)
        image = draw.normal(0, 0.3, (3, side, side)) + 1.5 * (disc | square)
        rows += [(image, thing, [(each[thing].mean() + 0.5) / side for each in (x, y)]) for thing in (disc, square)]
    batch = {
        "image": torch.tensor(np.stack([image for image, *_ in rows]), dtype=torch.float32),
        "target": torch.tensor(np.stack([[thing] for _, thing, _ in rows])),
        "points": torch.tensor([[[click, [0, 0]]] for *_, click in rows], dtype=torch.float32),
        "labels": torch.tensor([[[POSITIVE, NOTHING]]] * 4),
        "draws": torch.zeros(4, 1, 1),
    }
    torch.manual_seed(0)
    net = Segmenter(Segmenter.Config(width=16))
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    losses = []
    for _ in range(32):
        found = rounds_loss(net, batch, 1)
        optimizer.zero_grad()
        found.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(found.total.item())
    assert losses[-1] < 0.3 * losses[0]
    answers = Answers(net, batch["image"])
    masks = (
        best(*answers.to(batch["points"][:, 0], batch["labels"][:, 0])).repeat_interleave(2, 1).repeat_interleave(2, 2)
        > 0
    )
    for number, (_, thing, _) in enumerate(rows):
        mask, other = masks[number].numpy(), rows[number ^ 1][1]
        assert iou(mask, thing) > 0.6
        assert iou(mask, other) < 0.25


def test_it_is_judged_beside_its_baselines(program: Program) -> None:
    names = {(score["of"], score["name"]) for score in program.card.scores}
    for of in ("program", "a disc around the clicks", "pixels of alike colour"):
        assert {(of, f"mean IoU after {n}") for n in ("1 click", "3 clicks", "5 clicks")} <= names
    assert program.card.scores[0]["name"] == ImageSegmentation.metric
    by_name = {s["name"]: s["value"] for s in program.card.scores if s["of"] == "program"}
    assert by_name["mean IoU after 1 click, best of three"] >= by_name["mean IoU after 1 click"]


def test_it_answers_clicks_and_boxes_in_pixels_of_the_picture(program: Program, pictures: Path) -> None:
    image = str(pictures / "images" / "3.png")
    answer = program({"image": image, "points": [[36, 33, 1], [5, 5, 0]]})
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"].partition(",")[2]))))
    assert mask.shape == (40, 48)
    assert set(np.unique(mask)) <= {0, 255}
    assert json.loads(json.dumps(answer)) == answer
    assert 0 <= answer["score"] <= 1
    able = program.capability(Segment)  # type: ignore[type-abstract]
    masks, scores = able.segment(image, box=[28, 28, 44, 38])
    assert masks.shape == (3, 40, 48)
    assert masks.dtype == bool
    assert list(scores) == sorted(scores, reverse=True)
    again = able.segment(np.asarray(Image.open(image)), points=[[5, 5, 0], [36, 33, 1]])
    assert np.array_equal(again[0][0], mask > 0)


def test_a_mask_lies_where_its_object_is(program: Program, pictures: Path) -> None:
    """Into the square and out of it again: the true mask as an answer comes back in its place, but for the edge."""
    from sw2.domains.vision.segmentation.task import _into_square, _out_of_square

    example = read_masked(pictures, SHARES, 0).split("train")[0]
    small = torch.from_numpy(squared(example, 64).astype(np.float32)) - 0.5
    back = _out_of_square(small[None], (40, 48))[0]
    true = mask_of(example)
    assert (back != true).mean() < 0.03
    assert _into_square(24, 20, (40, 48), 64) == (0.5, 0.5)
    assert _into_square(0, 0, (40, 80), 64) == (0.0, 0.25)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "Nothing says which thing is meant."),
        ({"points": []}, "Nothing says which thing is meant."),
        ({"points": [[5, 5, 0]]}, "Nothing says which thing is meant."),
        ({"points": [[48, 5, 1]]}, "This click is not in the picture."),
        ({"points": [[5, -1, 1]]}, "This click is not in the picture."),
        ({"points": [[5, float("nan"), 1]]}, "This click is not in the picture."),
        ({"points": [[5, 5, 2]]}, "This click says neither."),
        ({"points": [[5, 5]]}, "This is no click."),
        ({"points": [["5", 5, 1]]}, "This is no click."),
        ({"points": "5,5"}, "These are no clicks."),
        ({"points": {"x": 5}}, "These are no clicks."),
        ({"box": [30, 30, 10, 38]}, "This box is not in the picture, or its corners are in the wrong order."),
        ({"box": [0, 0, 49, 40]}, "This box is not in the picture, or its corners are in the wrong order."),
        ({"box": [0, 0, 10]}, "This is no box."),
    ],
)
def test_prompts_that_are_none_are_refused(program: Program, pictures: Path, raw: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        program({"image": str(pictures / "images" / "3.png"), **raw})
    assert caught.value.message == said
    assert caught.value.wanted


def test_a_picture_alone_is_refused(program: Program, pictures: Path) -> None:
    with pytest.raises(UsageError, match="A picture alone"):
        program(str(pictures / "images" / "3.png"))


def test_the_same_seed_gives_the_same_program_and_a_saved_one_the_same_answers(
    program: Program, pictures: Path, tmp_path: Path
) -> None:
    again = _train(pictures, tmp_path / "again")
    assert again.id == program.id
    loaded = catalog().program(str(tmp_path / "again"), Context())
    raw = {"image": str(pictures / "images" / "1.png"), "points": [[36, 33, 1]]}
    assert loaded(raw) == program(raw)


def test_it_goes_on_from_itself(program: Program, pictures: Path, tmp_path: Path) -> None:
    more = _train(pictures, tmp_path / "more", steps=1, parent=str(program.path))

    def both(name: str) -> list[torch.Tensor]:
        return [each.tensors()[f"nets/segmenter/{name}"] for each in (program, more)]

    before, after = both("far.weight")
    assert 0 < float((before - after).norm()) < 0.1 * float(before.norm())
    assert torch.equal(*both("stem.conv.weight"))  # the first stages stay


def _run(program: Program, *arguments: Any) -> Result:
    importlib.import_module("sw2.faces.cli.run_command")
    return CliRunner().invoke(app, ["run", str(program.path), *map(str, arguments)])


def test_a_mask_is_kept_where_the_user_says(program: Program, pictures: Path, tmp_path: Path) -> None:
    asked, out = (pictures / "images" / "3.png", "points=[[36, 33, 1]]"), tmp_path / "new" / "mask.png"
    assert "a picture (--out FILE.png keeps it)" in _run(program, *asked).stdout
    done = _run(program, *asked, "--out", out)
    assert done.exit_code == 0, done.output
    assert str(out) in done.stdout
    masks, _ = program.capability(Segment).segment(str(asked[0]), points=[[36, 33, 1]])  # type: ignore[type-abstract]
    assert np.array_equal(np.asarray(Image.open(out)) > 0, masks[0])


@pytest.mark.parametrize(
    ("more", "name", "said"),
    [
        ([], "taken.png", "This file is there already"),
        ([], "mask.jpg", "The picture is written as PNG."),
        (["2.png"], "mask.png", "One file holds one answer."),
    ],
)
def test_a_mask_that_cannot_be_kept_is_refused_before_it_is_computed(
    program: Program, pictures: Path, tmp_path: Path, more: list[str], name: str, said: str
) -> None:
    (tmp_path / "taken.png").write_text("mine")
    images = [pictures / "images" / each for each in ("3.png", *more)]
    refused = _run(program, *images, "points=[[36, 33, 1]]", "--out", tmp_path / name)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["taken.png"]
    assert (tmp_path / "taken.png").read_text() == "mine"


# ---------------------------------------------------------------------------------------------------------------- data


def test_objects_of_one_picture_stay_together(pictures: Path) -> None:
    data = read_masked(pictures, SHARES, 0)
    places: dict[str, set[str]] = {}
    for name, split in data.splits.items():
        for example in split:
            places.setdefault(example["sha256"], set()).add(name)
            assert mask_of(example).any()
    assert len(places) == PICTURES
    assert all(len(splits) == 1 for splits in places.values())
    assert sum(len(split) for split in data.splits.values()) == 2 * PICTURES
    assert read_masked(pictures, SHARES, 0).fingerprint == data.fingerprint


def test_a_folder_of_masks_and_a_void_value(tmp_path: Path) -> None:
    for number in range(2):
        _written(tmp_path, number)
    several = tmp_path / "masks" / "0"
    several.mkdir()
    (tmp_path / "masks" / "0.png").rename(several / "dog.png")
    values = np.asarray(Image.open(tmp_path / "masks" / "1.png")).copy()
    values[0, 0] = 255
    Image.fromarray(values).save(tmp_path / "masks" / "1.png")
    names = [example["name"] for example in read_masked(tmp_path, {}, 0).split("train")]
    assert names == ["0.png:dog", "1.png:1", "1.png:2"]


def _break(folder: Path, how: str) -> None:
    masks = folder / "masks"
    match how:
        case "size":
            Image.new("L", (9, 9), 1).save(masks / "0.png")
        case "empty":
            Image.new("L", (48, 40), 0).save(masks / "0.png")
        case "colour":
            Image.new("RGB", (48, 40), "white").save(masks / "0.png")
        case "partner":
            (masks / "0.png").unlink()
        case "no picture":
            (folder / "images" / "0.png").unlink()
        case "damaged":
            (masks / "0.png").write_bytes(b"no png")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("size", "Picture and mask differ in size."),
        ("empty", "The mask is empty."),
        ("colour", "This mask has colours."),
        ("partner", "There is no mask."),
        ("no picture", "There is no picture of this name."),
        ("damaged", "This mask cannot be read."),
    ],
)
def test_a_bad_picture_is_named_and_many_are_an_error(tmp_path: Path, how: str, said: str) -> None:
    for number in range(12):
        _written(tmp_path, number)
    _break(tmp_path, how)
    data = read_masked(tmp_path, {}, 0)
    assert [row.why.startswith(said) for row in data.rejected] == [True]
    for number in range(2, 12):
        for name in ("images", "masks"):
            (tmp_path / name / f"{number}.png").unlink()
    with pytest.raises(DataError, match="Too many rows"):
        read_masked(tmp_path, {}, 0)


def test_what_is_no_such_data_is_refused(tmp_path: Path) -> None:
    task, options = ImageSegmentation(), SegmentationOptions()
    with pytest.raises(DataError, match="no folder of pictures with masks"):
        task.read(str(tmp_path), options, Context())
    with pytest.raises(Sw2Error, match="no such data"):
        task.read("stmaps", options, Context())


class _Least(np.random.Generator):
    """Counts draw the least: one thing, no patch. Everything else is drawn as ever."""

    def integers(self, low: int, high: int | None = None) -> int:  # type: ignore[override]
        return 0 if high is None else low


def _alone(number: int) -> _Least:
    return _Least(np.random.PCG64(number))


def _red_thing() -> Image.Image:
    thing = np.zeros((60, 40, 4), np.uint8)
    thing[10:50, 5:35] = (250, 10, 10, 255)
    return Image.fromarray(thing)


def _red(image: np.ndarray) -> np.ndarray:
    return image[..., 0].astype(int) - image[..., 1] > 50


def test_a_scene_is_a_function_of_its_number_and_shows_its_object() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (90, 120, 1), dtype=np.uint8)
    things, photos = [_red_thing()], [Image.fromarray(np.repeat(grey, 3, 2))]
    for number in range(20):
        image, masks = scene(things, photos, 64, numpy_generator(0, "scene", number))
        again = scene(things, photos, 64, numpy_generator(0, "scene", number))
        assert np.array_equal(image, again[0])
        assert np.array_equal(masks, again[1])
        mask = masks[0]
        assert not (np.sum(masks, axis=0) > 1).any()
        assert image.shape == (64, 64, 3)
        assert mask.shape == (64, 64)
        assert mask.mean() >= 0.015
        # Never a patch, which is grey, and not what another thing or a patch hides.
        assert _red(image)[binary_erosion(mask)].mean() > 0.99


def test_a_thing_alone_is_masked_to_its_edge() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (90, 120, 1), dtype=np.uint8)
    for number in range(20):
        image, (mask,) = scene([_red_thing()], [Image.fromarray(np.repeat(grey, 3, 2))], 96, _alone(number))
        assert _red(image)[binary_erosion(mask, iterations=2)].all()
        assert _red(image)[~binary_dilation(mask, iterations=3)].mean() < 0.001


def test_about_half_of_the_things_throw_a_shadow_that_is_no_part_of_them() -> None:
    white = Image.new("RGB", (120, 90), "white")
    shaded = 0
    for number in range(40):
        image, (mask,) = scene([_red_thing()], [white], 64, _alone(number))
        around = image.min(2)[~binary_dilation(mask, iterations=3)]
        assert not _red(image)[~binary_dilation(mask, iterations=3)].any()
        shaded += int(around.min() < np.median(around) - 40)
    assert 8 <= shaded <= 28


def test_whoever_knows_the_object_needs_one_click() -> None:
    target = np.zeros((16, 16), bool)
    target[3:9, 4:12] = True
    assert clicked(target, lambda clicks: target) == [1.0] * 5
    assert clicked(target, lambda clicks: ~target) == [0.0] * 5


def test_a_small_find_is_looked_at_again_with_all_prompts_and_a_large_one_is_not() -> None:
    mask = np.zeros((300, 400), bool)
    assert closer(mask, [(200, 150, POSITIVE)]) is None, "nothing was found"
    mask[140:160, 190:215] = True
    for prompts in ([(200, 150, POSITIVE)], [(200, 150, POSITIVE), (230, 120, 0)], [(195, 141, POSITIVE)]):
        part = closer(mask, prompts)
        assert part is not None
        rows, columns = part
        assert mask[part].sum() == mask.sum()
        assert all(rows.start <= y < rows.stop and columns.start <= x < columns.stop for x, y, _ in prompts)
        assert max(rows.stop - rows.start, columns.stop - columns.start) < 150
    corner = np.zeros_like(mask)
    corner[:9, :9] = True
    part = closer(corner, [(4, 4, POSITIVE)])
    assert part is not None
    assert (part[0].start, part[1].start) == (0, 0)
    mask[20:280, 30:390] = True
    assert closer(mask, [(200, 150, POSITIVE)]) is None, "most of the picture is seen already"
