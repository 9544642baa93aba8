"""Exported programs answer as they did before, at every size, in ONNX Runtime alone."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sw2
from sw2.base.errors import MissingExtra, ProgramError, UnknownName, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Export, Graph
from sw2.core.card import Card
from sw2.core.program import Answer, Net, Program, Runtime
from sw2.core.task import Context
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import PrepConfig as TextPrepConfig
from sw2.domains.language.prep import TextPrep
from sw2.domains.language.task import TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.domains.vision.efficientnet import EfficientNetLite
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.domains.vision.resnet import ResNet
from sw2.domains.vision.task import PictureClassifier
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.prep.pictures import Fit
from sw2.verbs.export import Exported, export

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
Image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
ODD_SIZES = [(1, 1), (1, 9), (3, 200), (500, 37), (28, 28), (8, 8)]


def classifier(pictures: Sequence[np.ndarray], size: int, fit: Fit = "crop", network: str = "resnet") -> Program:
    """A picture classifier with random weights whose answers differ from one of `pictures` to another."""
    torch.manual_seed(0)
    channels = 1 if pictures[0].ndim == 2 else 3
    if network == "resnet":
        halves = 0 if size < 20 else 1
        net: Any = ResNet(ResNet.Config(channels=channels, stem=8, stem_halves=halves, widths=(16, 24), blocks=(1, 1)))
        head = net.head
    else:
        net = EfficientNetLite(EfficientNetLite.Config(classes=10))
        head = net.classifier
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            module.momentum = None  # the statistics of all that passes through
    prep_config = PrepConfig(
        size=size, channels=channels, fit=fit, mean=(90.0,) * channels, deviation=(70.0,) * channels
    )
    prep = PicturePrep(prep_config, [f"label {number}" for number in range(10)])
    batch = prep.normalise(torch.stack([prep.picture(picture) for picture in pictures]))
    with torch.no_grad():
        net({"image": batch})
        logits = net.eval()({"image": batch})["logits"]
        head.weight.mul_(3 / logits.std(0).mean())
        head.bias.sub_(net({"image": batch})["logits"].mean(0))
    return program("image-classification", PictureClassifier, {"classifier": Net(network, net)}, prep)


def writer(context: int = 48) -> Program:
    """A language model with random weights whose logits are far apart."""
    tokenizer = Tokenizer.train([path.read_text() for path in sorted((ROOT / "src/sw2/base").glob("*.py"))], 400)
    shape = Decoder.Config(
        vocab_size=tokenizer.vocab_size,
        context=context,
        width=32,
        depth=2,
        heads=4,
        kv_heads=2,
        hidden=64,
        init_deviation=0.3,
    )
    nets = {"decoder": Net("decoder", Decoder(shape))}
    return program("text-generation", TextWriter, nets, TextPrep(tokenizer, TextPrepConfig()))


def program(task: str, runtime: type[Runtime], nets: Mapping[str, Net], prep: Any) -> Program:
    return Program.assemble(
        task=catalog().task(task), runtime=runtime, nets=nets, prep=prep, provider=catalog().provider(task)
    )


def session(written: Exported) -> Any:
    return onnxruntime.InferenceSession(str(written.path / "model.onnx"), providers=["CPUExecutionProvider"])


def digits(number: int) -> list[np.ndarray]:
    task = catalog().task("image-classification")
    return [example["image"] for example in task.read("digits", task.Options(), Context()).split("test")[:number]]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def assert_same_answers(written: Exported, exported: Program, pictures: Sequence[np.ndarray]) -> None:
    """Hold the file against the program; answers that do not differ from each other would prove nothing."""
    wanted = exported.capability(PictureClassifier).probabilities(pictures)
    assert np.ptp(wanted, 0).max() > 0.2
    model = session(written)
    for picture, row in zip(pictures, wanted, strict=True):
        deep = picture if picture.ndim == 3 else picture[..., None]
        assert abs(model.run(None, {"picture": deep})[0] - row).max() <= TOLERANCE


@pytest.fixture(scope="module")
def small_classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Exported]:
    made = classifier(digits(100), 8)
    return made, export(made, tmp_path_factory.mktemp("export") / "digits", "onnx")


@pytest.fixture(scope="module")
def small_writer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Exported]:
    made = writer()
    return made, export(made, tmp_path_factory.mktemp("export") / "text", "onnx")


def test_real_digits_and_odd_sizes_get_the_same_answers(small_classifier: tuple[Program, Exported]) -> None:
    made, written = small_classifier
    pictures = digits(100)
    assert len(pictures) == 100
    assert_same_answers(written, made, pictures)
    assert_same_answers(written, made, [noise(*size) for size in ODD_SIZES])


def test_what_is_said_of_the_file_is_so(small_classifier: tuple[Program, Exported]) -> None:
    made, written = small_classifier
    assert json.loads(json.dumps(written.to_json())) == {
        "path": str(written.path),
        "checked": 101,
        "largest_difference": written.largest_difference,
        "files": ["README.md", "labels.json", "model.onnx"],
    }
    assert 0 < written.largest_difference <= TOLERANCE
    assert sorted(path.name for path in written.path.iterdir()) == list(written.files)
    model = session(written)
    facts = model.get_modelmeta().custom_metadata_map
    assert facts == {
        "task": "image-classification",
        "program": made.id,
        "sw2": sw2.__version__,
        "labels": json.dumps([f"label {number}" for number in range(10)]),
    }
    assert (written.path / "labels.json").read_text() == facts["labels"]
    assert [(value.name, value.shape) for value in model.get_inputs()] == [("picture", ["height", "width", 1])]
    assert [(value.name, value.shape) for value in model.get_outputs()] == [("probabilities", [10])]
    readme = (written.path / "README.md").read_text()
    assert made.id in readme
    assert "| in | picture | uint8 | height × width × 1 |" in readme


def test_the_file_is_valid_onnx_of_one_opset_without_traces_of_the_source(
    small_classifier: tuple[Program, Exported],
) -> None:
    _, written = small_classifier
    model = onnx.load(written.path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    content = (written.path / "model.onnx").read_bytes()
    assert b"task.py" not in content
    assert str(ROOT).encode() not in content


def test_text_of_any_batch_and_length_gets_the_same_logits(small_writer: tuple[Program, Exported]) -> None:
    made, written = small_writer
    runtime, model = made.capability(TextWriter), session(written)
    tokenizer = runtime.prep.tokenizer
    lines = [line for line in (ROOT / "src/sw2/core/program.py").read_text().splitlines() if len(line) > 20][:100]
    assert len(lines) == 100
    batches = [[tokenizer.end_of_text, *tokenizer.encode(line)][:48] for line in lines]
    cases = [np.array([tokens]) for tokens in batches]
    cases += [np.array([[0]]), np.arange(48)[None], np.arange(5 * 17).reshape(5, 17), np.zeros((3, 1), np.int64)]
    for tokens in cases:
        with torch.inference_mode():
            wanted = runtime.net({"tokens": torch.from_numpy(tokens)})["logits"].numpy()
        (got,) = model.run(None, {"tokens": tokens})
        assert got.shape == wanted.shape
        assert abs(got - wanted).max() <= TOLERANCE * max(1, abs(wanted).max())
        assert abs(wanted).max() > 1


def test_exported_text_is_causal(small_writer: tuple[Program, Exported]) -> None:
    """A mask written down at the length of the trace would let tokens see those after them."""
    model = session(small_writer[1])
    tokens = np.arange(40)[None]
    whole = model.run(None, {"tokens": tokens})[0]
    for length in (1, 7, 23):
        np.testing.assert_allclose(model.run(None, {"tokens": tokens[:, :length]})[0], whole[:, :length], atol=1e-3)


def test_the_tokenizer_comes_along(small_writer: tuple[Program, Exported]) -> None:
    made, written = small_writer
    assert written.files == ("README.md", "model.onnx", "tokenizer.json")
    kept = Tokenizer((written.path / "tokenizer.json").read_text())
    assert kept.encode("def sum(a, b):") == made.capability(TextWriter).prep.tokenizer.encode("def sum(a, b):")
    assert "labels" not in session(written).get_modelmeta().custom_metadata_map


def test_examples_are_short_and_start_with_what_to_install(
    small_classifier: tuple[Program, Exported], small_writer: tuple[Program, Exported]
) -> None:
    for _, written in (small_classifier, small_writer):
        code = example_of(written)
        ast.parse(code)
        assert code.startswith("# pip install onnxruntime ")
        assert len(code.splitlines()) <= 20


def example_of(written: Exported) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (written.path / "README.md").read_text(), re.DOTALL)
    return str(code)


# ------------------------------------------------------------------------------------------------------- what fails


class Stub(Runtime, Export):
    """A runtime around any module, to see what export makes of it."""

    name = "stub"
    Prep = PicturePrep

    def __init__(self, nets: Mapping[str, Any], prep: Any, uses: Mapping[str, Program]) -> None:
        self.module = nets["module"]

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        raise NotImplementedError

    def graph(self) -> Graph:
        return Graph(
            module=self.module,
            inputs={"x": torch.ones(4)},
            dynamic={"x": {0: "n"}},
            outputs=("y",),
            samples=[(torch.ones(9),)],
            assets={"note.txt": b"beside it"},
            example="print()\n",
        )


class BranchesByLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] < 6 else x - 1


class AsksForValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Unwilling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svdvals(x[:, None] * x)


def stub(module: nn.Module) -> Program:
    prep = PicturePrep(PrepConfig(mean=(0.0,), deviation=(1.0,)), ["a"])
    task = catalog().task("image-classification")
    made = Stub({"module": module}, prep, {})
    return Program(task=task, runtime=made, nets={}, prep=prep, provider={}, card=Card())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (BranchesByLength(), "does not answer as the program does"),
        (AsksForValues(), "cannot be written as ONNX"),
        (Unwilling(), "cannot be written as ONNX"),
    ],
)
def test_what_cannot_be_exported_is_said_once_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], module: nn.Module, message: str
) -> None:
    with pytest.raises(ProgramError, match=message) as caught:
        export(stub(module), tmp_path / "out", "onnx")
    assert caught.value.got
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_an_unknown_format_offers_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        export(stub(nn.Identity()), tmp_path / "out", "onxx")
    assert caught.value.do == "Did you mean 'onnx'?"
    assert caught.value.exit_code == 2


def test_a_missing_library_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra) as caught:
        export(stub(nn.Identity()), tmp_path / "out", "onnx")
    assert caught.value.do == "pip install 'sw2[export]'"
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UsageError, match="something else"):
            export(stub(nn.Identity()), taken, "onnx")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_program_without_the_capability_says_so(tmp_path: Path) -> None:
    class Mute(Runtime):
        name = "mute"

        def __init__(self, nets: Mapping[str, Any], prep: Any, uses: Mapping[str, Program]) -> None:
            pass

        def answer(self, inputs: Sequence[Any]) -> list[Answer]:
            raise NotImplementedError

    made = stub(nn.Identity())
    mute = Program(task=made.task, runtime=Mute({}, None, {}), nets={}, prep=made.prep, provider={}, card=made.card)
    for name in ("onnx", "gguf"):  # nothing is offered that would be refused then
        with pytest.raises(ProgramError, match="no other format") as caught:
            export(mute, tmp_path / "out", name)
        assert "onnx" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------------- slow ones


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)], ids=["grey", "colour"])
def test_pictures_of_every_fit_and_kind(tmp_path: Path, fit: Fit, shape: tuple[int, ...]) -> None:
    pictures = list(noise(64, *shape))
    made = classifier(pictures, 28, fit)
    written = export(made, tmp_path / "out", "onnx")
    assert_same_answers(written, made, pictures)
    assert_same_answers(written, made, [noise(*size, *shape[2:]) for size in ODD_SIZES])


@pytest.mark.slow
def test_efficientnet_of_128_pixels(tmp_path: Path) -> None:
    pictures = [noise(60 + 5 * number, 150 - 3 * number, 3) // (1 + number % 4) for number in range(24)]
    made = classifier(pictures, 128, network="efficientnet-lite0")
    written = export(made, tmp_path / "out", "onnx")
    assert_same_answers(written, made, pictures)
    assert_same_answers(written, made, [noise(*size, 3) for size in ODD_SIZES])


@pytest.mark.slow
def test_the_same_program_gives_the_same_bytes(small_writer: tuple[Program, Exported], tmp_path: Path) -> None:
    made, written = small_writer
    again = export(made, tmp_path / "again", "onnx")
    for name in written.files:
        assert (again.path / name).read_bytes() == (written.path / name).read_bytes()


@pytest.mark.slow
def test_text_longer_than_attention_is_written_out(tmp_path: Path) -> None:
    """Above 1,024 tokens torch's own kernel answers, and the file, which has one way for all lengths, is held to it."""
    assert export(writer(context=1200), tmp_path / "out", "onnx").largest_difference <= TOLERANCE


_EVERY_ANSWER = """
import importlib.util, json, runpy, sys
import numpy as np
assert not any(importlib.util.find_spec(name) for name in ("torch", "sw2"))
wanted, raws = json.load(open("raws.json", encoding="utf-8"))
answers = {}
for number, raw in enumerate(raws):
    sys.argv = ["example.py", raw]
    seen = runpy.run_path("example.py")
    answers |= {f"{name} {number}": np.asarray(seen[name]) for name in wanted}
np.savez("answers.npz", **answers)
"""


def run_example(written: Exported, names: Sequence[str], raws: Sequence[str], folder: Path) -> Any:
    """What the README's example has in its variables `names` after each of `raws`, in an environment of its own."""
    code = example_of(written)
    (written.path / "example.py").write_text(code)
    (written.path / "raws.json").write_text(json.dumps([list(names), list(raws)]))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_NO_INDEX")}
    install = code.splitlines()[0].removeprefix("# pip ").split()
    python = str(folder / "bin" / "python")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "--quiet", *install, "--constraint", str(ROOT / "constraints.txt")],
        [python, "-c", _EVERY_ANSWER],
    ):
        done = subprocess.run(command, env=environment, cwd=written.path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return np.load(written.path / "answers.npz")


@pytest.mark.slow
def test_a_trained_classifier_runs_without_sw2_and_torch(tmp_path: Path) -> None:
    """Asks the package registry for the distributions that the example names."""
    made = sw2.train("image-classification", "digits", preset="tiny", steps=20, out=tmp_path / "run")
    written = export(made, tmp_path / "out", "onnx")
    pictures, files = digits(100), [tmp_path / f"{number}.png" for number in range(100)]
    for picture, file in zip(pictures, files, strict=True):
        Image.fromarray(picture).save(file)
    answers = run_example(written, ["probabilities"], [str(file) for file in files], tmp_path / "venv")
    for number, row in enumerate(made.capability(PictureClassifier).probabilities(pictures)):
        assert abs(answers[f"probabilities {number}"] - row).max() <= TOLERANCE


@pytest.mark.slow
def test_a_trained_writer_runs_without_sw2_and_torch(tmp_path: Path) -> None:
    """Asks the package registry for the distributions that the example names."""
    (tmp_path / "texts").mkdir()
    for number, path in enumerate(sorted((ROOT / "src").rglob("*.py"))):
        (tmp_path / "texts" / f"{number}.txt").write_text(path.read_text())
    made = sw2.train("text-generation", tmp_path / "texts", preset="tiny", steps=20, out=tmp_path / "run")
    written = export(made, tmp_path / "out", "onnx")
    lines = (ROOT / "src/sw2/core/trainer.py").read_text().splitlines()
    prompts = [*[line.strip()[:20] for line in lines if len(line.strip()) > 20][:99], "a <|endoftext|> b"]
    answers = run_example(written, ["tokens", "logits"], prompts, tmp_path / "venv")
    runtime = made.capability(TextWriter)
    context = runtime.net.config.context
    for number, prompt in enumerate(prompts):
        tokens, logits = answers[f"tokens {number}"], answers[f"logits {number}"]
        with torch.inference_mode():
            wanted = runtime.net({"tokens": torch.from_numpy(tokens[None, :-1][:, -context:])})["logits"].numpy()
        assert abs(logits - wanted).max() <= TOLERANCE * max(1, abs(wanted).max())
        # Beyond the context the example lets go of the oldest tokens, where the program stops.
        text = runtime.prep.tokenizer.decode(tokens)
        greedy = "".join(piece.text for piece in runtime.generate(prompt, Sampling(temperature=0), 64))
        assert text.startswith(prompt + greedy.rstrip("\N{REPLACEMENT CHARACTER}"))
