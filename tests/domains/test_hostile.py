"""Files that were made to harm: every variation of a good one is read or refused, in bounded time and memory.

Whatever opens is also used: a text is continued, a message answered, a picture looked at, the program's id computed.
A long round by hand:

    python -m pytest tests/domains/test_hostile.py -m slow
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sw2.base.config import replace
from sw2.base.store import sha256_of_file
from sw2.catalog import catalog
from sw2.core.capabilities import Chat, Generate
from sw2.core.program import Program
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.formats import opening
from sw2.domains.language.formats.writing import convert
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.tokenizer import Tokenizer
from sw2.domains.vision import families as vision
from sw2.domains.vision.opening import open_folder as open_pictures
from sw2.domains.vision.vit import ViT
from sw2.parts.decoding.sampling import USUAL
from sw2.testing.hostile import Structured, endure, structured_json, structured_safetensors

TOKENIZER = Tokenizer.train(["the cat sat on the mat 12345"] * 9, 272)
PREP = TextPrep(TOKENIZER, PrepConfig(vocab_size=272), Controls(chat_template="{{ messages }}", begins=""))
TINY = Decoder.Config(
    vocab_size=TOKENIZER.vocab_size + 8,  # padded, as many are
    context=256,
    width=32,
    depth=1,
    heads=2,
    kv_heads=1,
    hidden=32,
    init_deviation=0.2,
)
CLASSIC = replace(TINY, kv_heads=2, hidden=128, norm="layer", activation="gelu_tanh", biases="all")
SHAPES: dict[str, Decoder.Config] = {
    "llama": TINY,
    "gpt2": replace(CLASSIC, positions="learned"),
    "bloom": replace(CLASSIC, positions="alibi", embedding_norm=True),
}


def use(program: Program) -> None:
    writer = program.capability(Generate)  # type: ignore[type-abstract]
    for _ in writer.generate("the cat", USUAL, 2):
        pass
    if isinstance(program.runtime, Chat):
        for _ in program.runtime.reply([{"role": "user", "content": "hi"}], USUAL, 2):
            pass
    assert len(program.id) == 64


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in each form: FORMAT-SHAPE folders, and "program"."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("good")
    for name in ("gguf-llama", "gguf-q8_0-llama", "gguf-q4_1-llama", "gguf-gpt2", "gguf-bloom", "huggingface-llama"):
        (root / name).mkdir()
        form, _, shape = name.rpartition("-")
        convert(Decoder(SHAPES[shape]).requires_grad_(False), PREP, form, root / name)
    folder = root / "huggingface-llama"
    opening.open_folder(folder, catalog()).save(root / "program")
    shutil.copytree(folder, root / "indexed")
    names = {"embedding": "model.safetensors", "other": "model.safetensors"}
    (root / "indexed/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    _write_pictures(root / "pictures")
    return root


def _write_pictures(folder: Path) -> None:
    config = ViT.Config(size=8, channels=3, classes=2, width=16, depth=1, heads=2, hidden=16, pool="class")
    family, hf = vision.holder(config)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**hf, "id2label": {"0": "cat", "1": "dog"}}))
    prepared = {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    save_file(vision.to_hf(ViT(config).state_dict(), family, config), folder / "model.safetensors")


def _gguf(folder: Path, file: Path) -> None:
    del folder
    use(opening.open_gguf(file, catalog()))


def _folder(folder: Path, file: Path) -> None:
    del file
    use(opening.open_folder(folder, catalog()))


def _pictures(folder: Path, file: Path) -> None:
    del file
    program = open_pictures(folder, catalog())
    assert set(program(np.zeros((9, 7, 3), np.uint8))) == {"label", "probabilities"}
    assert len(program.id) == 64


def _program(folder: Path, file: Path) -> None:
    """Checksums and id are made to fit, as whoever means harm would."""
    said = folder / "program.json"
    if file != said:
        document = json.loads(said.read_text())
        document.pop("id", None)
        document["files"][file.name] = {"sha256": sha256_of_file(file), "bytes": file.stat().st_size}
        said.write_text(json.dumps(document))
    use(Program.load(folder, catalog()))


CASES: dict[str, tuple[Callable[[Path, Path], None], Structured | None]] = {
    "gguf-llama/model.gguf": (_gguf, None),
    "gguf-q8_0-llama/model.gguf": (_gguf, None),
    "gguf-q4_1-llama/model.gguf": (_gguf, None),
    "gguf-gpt2/model.gguf": (_gguf, None),
    "gguf-bloom/model.gguf": (_gguf, None),
    "huggingface-llama/config.json": (_folder, structured_json),
    "huggingface-llama/tokenizer.json": (_folder, structured_json),
    "huggingface-llama/tokenizer_config.json": (_folder, structured_json),
    "huggingface-llama/generation_config.json": (_folder, structured_json),
    "huggingface-llama/model.safetensors": (_folder, structured_safetensors),
    "indexed/model.safetensors.index.json": (_folder, structured_json),
    "pictures/config.json": (_pictures, structured_json),
    "pictures/preprocessor_config.json": (_pictures, structured_json),
    "pictures/model.safetensors": (_pictures, structured_safetensors),
    "program/program.json": (_program, structured_json),
    "program/weights.safetensors": (_program, structured_safetensors),
    "program/tokenizer.json": (_program, structured_json),
    "program/controls.json": (_program, structured_json),
}


def _hold(case: str, good: Path, into: Path, numbers: range) -> None:
    opens, structured = CASES[case]
    folder = shutil.copytree(good / Path(case).parent, into / "model")
    file = folder / Path(case).name
    opens(folder, file)
    outcomes = endure(file, lambda: opens(folder, file), numbers, structured)
    assert outcomes.total() == len(numbers)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("case", CASES)
def test_no_variation_of_a_file_does_harm(case: str, good: Path, tmp_path: Path) -> None:
    _hold(case, good, tmp_path, range(40))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("case", CASES)
def test_no_variation_of_many_does_harm(case: str, good: Path, tmp_path: Path) -> None:
    _hold(case, good, tmp_path, range(40, 2000))
