"""Picture classifiers in Hugging Face folders: opened, prepared, refused, trained on from, and written.

The folders are made here, in the form that transformers writes; where it is installed, it reads what we write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sw2.base.config import replace
from sw2.base.errors import ProgramError
from sw2.base.seed import generator
from sw2.catalog import catalog
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.core.trainer import Budget
from sw2.domains.language import families as language
from sw2.domains.vision import families
from sw2.domains.vision.convnext import ConvNeXt
from sw2.domains.vision.folder import _prep, convert
from sw2.domains.vision.opening import open_folder
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.domains.vision.resnet import ResNet
from sw2.domains.vision.task import PictureClassifier
from sw2.domains.vision.vit import ViT
from sw2.verbs.export import export
from sw2.verbs.train import Order, train

DEEP = ResNet.Config(
    channels=3, classes=3, stem=8, stem_halves=2, stem_kind="photo", shortcut="stride", widths=(8, 16), blocks=(1, 2)
)
CONFIGS: dict[str, Any] = {
    "vit": ViT.Config(size=16, channels=3, classes=3, width=16, depth=2, heads=2, hidden=24, pool="class"),
    "resnet basic": DEEP,
    "resnet bottleneck": replace(DEEP, block="bottleneck"),
    "convnext": ConvNeXt.Config(channels=3, classes=3, patch=4, widths=(8, 16), blocks=(2, 1), layer_scale=0.5),
}
EVERY = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
LABELS = {"id2label": {"0": "crane", "1": "lynx", "2": "crane"}}
PREPARED = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 16, "width": 16},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.5],
}
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def write(config: Any, into: Path) -> Path:
    """A folder of the form that transformers writes, with weights and running statistics of which every one matters."""
    family, hf = families.holder(config)
    net = family.network(config)
    draws = generator(3, "weights")
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.2 * torch.rand(tensor.shape, generator=draws)
    into.mkdir()
    (into / "config.json").write_text(json.dumps({**hf, **LABELS}))
    (into / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    save_file(families.to_hf(net.state_dict(), family, config), into / "model.safetensors", {"format": "pt"})
    return into


@EVERY
def test_our_folders_open_in_transformers(config: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: no parity of families")
    program = open_folder(write(config, tmp_path / "theirs"), catalog())
    runtime = program.capability(PictureClassifier)
    (tmp_path / "ours").mkdir()
    convert("huggingface", runtime.net, runtime.prep, tmp_path / "ours")
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "ours").eval()
    image = torch.randn(2, 3, 16, 16, generator=generator(1, "image"))
    torch.testing.assert_close(theirs(pixel_values=image).logits, runtime.net({"image": image})["logits"])
    assert theirs.config.id2label[1] == "lynx"


@EVERY
def test_a_folder_is_a_program(config: Any, tmp_path: Path) -> None:
    """It answers, is saved and loads, and goes out again as a folder that answers the same."""
    program = catalog().program(str(write(config, tmp_path / "theirs")), Context())
    answer = program(PICTURE)
    assert set(answer["probabilities"]) == {"crane", "lynx", "crane (2)"}
    assert Program.load(program.save(tmp_path / "kept"), catalog())(PICTURE) == answer
    written = export(program, tmp_path / "ours", "huggingface")
    assert written.files == ("config.json", "model.safetensors", "preprocessor_config.json")
    assert (written.checked, written.largest_difference <= 1e-4) == (20, True)
    again = catalog().program(str(tmp_path / "ours"), Context())(PICTURE)
    assert again["label"] == answer["label"]
    assert again["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("told", "size", "fit", "zoom"),
    [
        ({"size": {"height": 16, "width": 16}}, 16, "stretch", 1.0),
        ({"size": 16}, 16, "stretch", 1.0),
        ({"size": {"shortest_edge": 14}, "crop_pct": 0.875, "image_processor_type": "ConvNextImageProcessor"}, 14,
         "crop", 8 / 7),
        ({"size": 14, "feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.5}, 14, "crop", 2.0),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875, "image_processor_type": "ConvNextImageProcessor"}, 384,
         "stretch", 1.0),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, 224,
         "crop", 8 / 7),
    ],
)  # fmt: skip
def test_how_pictures_are_prepared(told: dict[str, Any], size: int, fit: str, zoom: float) -> None:
    common = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    got = _prep({**common, **told}, 3, Path("preprocessor_config.json"))
    wanted = PrepConfig(size=size, channels=3, fit=fit, zoom=zoom, mean=(127.5,) * 3, deviation=(63.75,) * 3)  # type: ignore[arg-type]
    assert (got.size, got.fit, got.mean, got.deviation) == (wanted.size, wanted.fit, wanted.mean, wanted.deviation)
    assert got.zoom == pytest.approx(zoom)
    plain = _prep({**told, "do_normalize": False}, 3, Path("preprocessor_config.json"))
    assert (plain.mean, plain.deviation) == ((0.0,) * 3, (255.0,) * 3)


def test_pictures_are_prepared_as_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: no parity of families")
    picture = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    for told in (PREPARED, {**PREPARED, "image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875,
                            "size": {"shortest_edge": 28}}):  # fmt: skip
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
        theirs = getattr(transformers, f"{told['image_processor_type']}Pil").from_pretrained(tmp_path)
        wanted = torch.from_numpy(np.asarray(theirs(picture, return_tensors="np")["pixel_values"]))
        prep = PicturePrep(_prep(told, 3, tmp_path), ["a", "b"])
        got = prep.normalise(prep.picture(picture)[None])
        # They round to whole grey values after each of two passes, ours does not; by the smallest deviation.
        assert float((got - wanted).abs().max()) <= 1.02 / (255 * 0.2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": {"height": 16, "width": 12}}, "size"),
        ({"size": {"shortest_edge": 16}}, "size"),
        ({"size": None}, "size"),
        ({"size": 10**9}, "size"),
        ({"do_resize": False}, "do_resize"),
        ({"rescale_factor": 0.5}, "rescale_factor"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std"),
        ({"image_std": None}, "image_std"),
        ({"do_center_crop": True, "crop_size": 18}, "crop_size"),
    ],
)
def test_preparations_that_we_do_not_compute_are_refused_by_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ProgramError, match="cannot be prepared") as caught:
        _prep({**PREPARED, **change}, 3, Path("preprocessor_config.json"))
    assert str(caught.value.where).endswith(told)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("preprocessor_config.json", None, "cannot be read"),
        ("preprocessor_config.json", {"size": 20}, "disagree on the size"),
        ("config.json", {"id2label": {}}, "labels are not there"),
        ("config.json", {"id2label": {"0": "a", "2": "b"}}, "labels are not there"),
        ("config.json", {"id2label": {"0": "a", "1": "b"}}, "do not fit"),
        ("config.json", {"architectures": ["SwinForImageClassification"]}, "not known"),
        ("model.safetensors", None, "weights are not there"),
    ],
)
def test_folders_that_do_not_open(file: str, content: Any, says: str, tmp_path: Path) -> None:
    folder = write(CONFIGS["vit"], tmp_path / "vit")
    before = (folder / file).read_bytes()
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(json.dumps({**json.loads(before), **content}))
    with pytest.raises(ProgramError, match=says):
        catalog().program(str(folder), Context())


def test_an_unknown_architecture_says_what_every_domain_knows(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["SwinForImageClassification"]}')
    with pytest.raises(ProgramError, match="not known") as caught:
        catalog().program(str(tmp_path), Context())
    assert all(family.architecture in str(caught.value.wanted) for family in families.FAMILIES)
    assert "LlamaForCausalLM" in str(caught.value.wanted)


@pytest.mark.parametrize("domain", ["vision", "language"])
def test_the_catalogue_names_what_the_families_know(domain: str) -> None:
    known = {"vision": families.FAMILIES, "language": language.FAMILIES}[domain]
    (told,) = [entry.architectures for entry in catalog().domains[domain].formats.values() if entry.file]
    assert list(told) == [family.architecture for family in known]  # type: ignore[attr-defined]


def test_training_goes_on_from_a_folder(tmp_path: Path) -> None:
    """With other labels: the network and the preparation are the folder's, the head is new."""
    parent = write(CONFIGS["vit"], tmp_path / "vit")
    draw = np.random.default_rng(1)
    for label, base in (("dark", 0), ("light", 180)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 60, (20, 20, 3), dtype=np.uint8) + np.uint8(base)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    order = Order(
        task="image-classification",
        data=str(tmp_path / "photos"),
        parent=str(parent),
        budget=Budget(steps=20),
        settings=["trainer.evaluations=1", "learn.gradient.batch_size=8"],
    )
    program = train(catalog(), order, tmp_path / "run", Context())
    runtime = program.capability(PictureClassifier)
    assert runtime.net.config == replace(CONFIGS["vit"], classes=2)
    assert runtime.prep.config.mean == (127.5, 102.0, 76.5)
    assert program.card.scores[0]["value"] >= 0.75


def test_what_transformers_cannot_prepare_is_not_written(tmp_path: Path) -> None:
    net = ViT(replace(CONFIGS["vit"], channels=1)).eval()
    prep = PicturePrep(PrepConfig(size=16, mean=(0.0,), deviation=(1.0,)), ["a", "b", "c"])
    with pytest.raises(ProgramError, match="prepares no pictures like this"):
        convert("huggingface", net, prep, tmp_path)
