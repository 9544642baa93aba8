"""Segmentation by clicks as a whole: from a folder of masks to a program that answers clicks, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sw2.base.errors import DataError, Sw2Error, UsageError
from sw2.base.seed import numpy_generator
from sw2.catalog import catalog
from sw2.core.capabilities import Segment
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.vision.segmentation.cutouts import scene
from sw2.domains.vision.segmentation.data import mask_of, read_masked
from sw2.domains.vision.segmentation.task import ImageSegmentation, SegmentationOptions, clicked, squared
from sw2.verbs.train import Order, train

SHARES = {"test": 0.2, "validation": 0.1}
QUICK = ("trainer.evaluations=1", "trainer.health=off", "learn.gradient.precision=fp32", "prep.size=32")


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
    for number in range(24):
        _written(folder, number)
    return folder


def _train(data: Path, out: Path, *settings: str, steps: int = 4, **order: Any) -> Program:
    wanted = Order(
        task="image-segmentation",
        data=str(data),
        preset="tiny",
        budget=Budget(steps=steps),
        settings=[*QUICK, *settings],
        device="cpu",
        **order,
    )
    return train(catalog(), wanted, out, Context())


@pytest.fixture(scope="module")
def program(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return _train(pictures, tmp_path_factory.mktemp("run") / "run", steps=24)


def test_it_learns_and_is_judged_beside_its_baselines(program: Program) -> None:
    run = Path(str(program.path)).parent
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    losses = [event["loss"] for event in events if event["kind"] == "step"]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
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
    import torch

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


def test_the_same_seed_gives_the_same_program_and_a_saved_one_the_same_answers(pictures: Path, tmp_path: Path) -> None:
    one, two = (_train(pictures, tmp_path / name, steps=3) for name in ("one", "two"))
    assert one.id == two.id
    loaded = catalog().program(str(tmp_path / "one"), Context())
    raw = {"image": str(pictures / "images" / "1.png"), "points": [[36, 33, 1]]}
    assert loaded(raw) == one(raw)


def test_it_goes_on_from_itself(program: Program, pictures: Path, tmp_path: Path) -> None:
    more = _train(pictures, tmp_path / "more", steps=1, parent=str(program.path))
    before, after = (each.tensors()["nets/segmenter/stem.conv.weight"] for each in (program, more))
    assert 0 < float((before - after).norm()) < 0.1 * float(before.norm())


# ---------------------------------------------------------------------------------------------------------------- data


def test_objects_of_one_picture_stay_together(pictures: Path) -> None:
    data = read_masked(pictures, SHARES, 0)
    places: dict[str, set[str]] = {}
    for name, split in data.splits.items():
        for example in split:
            places.setdefault(example["sha256"], set()).add(name)
            assert mask_of(example).any()
    assert len(places) == 24
    assert all(len(splits) == 1 for splits in places.values())
    assert sum(len(split) for split in data.splits.values()) == 48
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


def test_a_scene_is_a_function_of_its_number_and_shows_its_object() -> None:
    draw = np.random.default_rng(0)
    thing = np.zeros((60, 40, 4), np.uint8)
    thing[10:50, 5:35] = (250, 10, 10, 255)
    things, photos = [Image.fromarray(thing)], [Image.fromarray(draw.integers(0, 256, (90, 120, 3), dtype=np.uint8))]
    for number in range(20):
        image, mask = scene(things, photos, 64, numpy_generator(0, "scene", number))
        again = scene(things, photos, 64, numpy_generator(0, "scene", number))
        assert np.array_equal(image, again[0])
        assert np.array_equal(mask, again[1])
        assert image.shape == (64, 64, 3)
        assert mask.shape == (64, 64)
        assert mask.mean() >= 0.015
        red, green = image[..., 0].astype(int), image[..., 1].astype(int)
        assert (red - green)[mask].mean() > (red - green)[~mask].mean() + 15


def test_whoever_knows_the_object_needs_one_click() -> None:
    target = np.zeros((16, 16), bool)
    target[3:9, 4:12] = True
    assert clicked(target, lambda clicks: target) == [1.0] * 5
    assert clicked(target, lambda clicks: ~target) == [0.0] * 5
