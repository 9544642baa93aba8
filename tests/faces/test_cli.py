"""The command line: its options, its exit codes, its texts for mistakes, and one JSON object with `--json`."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from sw2.core.kinds import Kind
from sw2.faces.cli import VERBS, app
from sw2.faces.cli.run_command import show

for _verb in VERBS:
    importlib.import_module(f"sw2.faces.cli.{_verb}_command")

TINY = ["image-classification", "digits", "--preset", "tiny", "--steps", "2"]


# Without what takes seconds and is no matter here: measuring bf16, and fitting baselines.
QUICK = [*TINY, "--set", "learn.gradient.precision=fp32", "--set", "data.test_share=0"]


def _label(value: Any) -> str:
    return " ".join(value)[-40:] if isinstance(value, list) else ""


def sw2(*arguments: Any) -> Result:
    """The command in this process; an exception that is no exit would be a traceback, and is raised here."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(code: int, *arguments: Any, says: tuple[str, ...] = ()) -> str:
    """The text of a command that is refused, which stands on standard error alone."""
    result = sw2(*arguments)
    assert result.exit_code == code, result.output
    assert not result.stdout
    for text in says:
        assert text in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a picture classifier."""
    path = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_HOME", str(path.parent / "home"))
        result = sw2("train", *TINY, "--set", "learn.gradient.precision=fp32", "--out", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ----------------------------------------------------------------------------------------------------------- options

CONSENT = ["--yes", "--offline"]
LEARN = ["task", "data", "--model", "--objective", "--from", "--with", "--preset", "--depth", "--minutes", "--steps",
         "--epochs", "--set"]  # fmt: skip
WRITE = [
    *("--max-tokens", "--stop", "--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty"),
    *("--presence-penalty", "--frequency-penalty", "--logit-bias", "--logprobs"),
    *("--json-schema", "--regex", "--choice", "--grammar"),
]
CONSTRAIN = WRITE[-4:]
AGAIN = ["--votes", "--review"]
DOCUMENTS = ["--docs", "--index", "--embedder", "--as"]
OPTIONS = {
    "list": ["what", "--json"],
    "plan": [*LEARN[:-1], "--params", "--tokens", "--gpus", "--gpu", "--set", "--seed", "--device", *CONSENT, "--json"],
    "train": [*LEARN, "--out", "--resume", "--config", "--seed", "--device", *CONSENT, "--json"],
    "search": [
        *("task", "data", "--space", "--minutes", "--steps", "--epochs", "--strategy", "--trials", "--model"),
        *("--objective", "--from", "--with", "--preset", "--depth", "--set", "--out", "--resume", "--seed", "--device"),
        *(*CONSENT, "--json"),
    ],
    "watch": ["run", "--once", "--json"],
    "run": ["program", "inputs", *WRITE, "--tool", *AGAIN, "--out", "--seed", *CONSENT, "--json"],
    "amend": ["program", "log", "inputs", "--insert", "--delete", "--fold", *CONSENT, "--json"],
    "chat": [
        *("program", "--system", "--max-tokens", "--temperature", "--tool", *DOCUMENTS, "--log", *CONSTRAIN, *AGAIN),
        *("--seed", *CONSENT, "--json"),
    ],
    "ask": ["program", "question", *DOCUMENTS, "--max-tokens", "--passages", "--seed", *CONSENT, "--json"],
    "serve": [
        *("programs", "--host", "--port", "--key", "--key-file", "--per-key", "--slots", "--queue"),
        *("--max-megabytes", "--max-seconds", "--drain", *DOCUMENTS, "--refresh", "--tool", "--log"),
        *(*CONSENT, "--json"),
    ],
    "studio": [
        *("folder", "--host", "--port", "--key", "--key-file", "--feedback", "--docs", "--index", "--embedder", "--as"),
        *("--slots", *CONSENT, "--json"),
    ],
    "eval": ["program", "data", "--task", "--split", "--fail-under", "--slices", "--set", "--seed", *CONSENT, "--json"],
    "compare": ["old", "new", "data", "--task", "--split", "--set", "--seed", *CONSENT, "--json"],
    "claims list": ["--json"],
    "claims run": ["name", "--full", "--out", "--seed", "--yes", "--offline", "--json"],
    "info": ["program", *CONSENT, "--json"],
    "export": ["program", "--out", "--format", *CONSENT, "--json"],
    "shrink": [
        *("program", "--out", "--bits", "--method", "--compare", "--data", "--examples", "--most-loss", "--set"),
        *("--seed", *CONSENT, "--json"),
    ],
    "data show": [
        *("data", "--mask", "--task", "--with", "--split", "--first", "--set", "--seed", *CONSENT, "--json"),
    ],
    "data from-feedback": ["log", "--out", "--json"],
    "data commit": ["data", "--message", "--task", "--set", "--json"],
    "data diff": ["data", "old", "new", "--count", "--task", "--set", "--json"],
    "data log": ["data", "--json"],
    "label suspects": [
        *("data", "--task", "--count", "--out", "--from", "--folds", "--minutes", "--steps", "--set", "--seed"),
        *("--device", *CONSENT, "--json"),
    ],
    "label next": ["program", "unlabelled", "--count", "--out", "--set", "--seed", *CONSENT, "--json"],
    "label serve": [
        *(
            "unlabelled",
            "--program",
            "--labels",
            "--out",
            "--overlap",
            "--task",
            "--host",
            "--port",
            "--key",
            "--key-file",
        ),
        *("--set", "--seed", *CONSENT, "--json"),
    ],
}


def test_the_options_are_these() -> None:
    """A new option is a decision: it belongs into this list, the design and the docs."""
    commands = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        commands |= {name: command} if below is None else {f"{name} {each}": below[each] for each in below}
    found = {
        name: [
            each.name if each.param_type_name == "argument" else each.opts[0]
            for each in command.params
            if each.name != "help"
        ]
        for name, command in commands.items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = sw2(*verb.split(), "--help")
    assert result.exit_code == 0
    assert all(option in result.stdout for option in OPTIONS[verb] if option.startswith("--"))


def test_the_version() -> None:
    result = sw2("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("sw2 ")


# ---------------------------------------------------------------------------------------------------------- mistakes

NEAREST = [
    (["lst"], "Did you mean 'list'?"),
    (["list", "taks"], "Did you mean 'tasks'?"),
    (["list", "--jsn"], "--json"),
    (["train", "image-clasification", "digits"], "Did you mean 'image-classification'?"),
    (["plan", "image-clasification", "digits"], "Did you mean 'image-classification'?"),
    (["train", "image-classification", "digts"], "Did you mean 'digits'?"),
    (["train", *TINY, "--model", "resnt"], "Did you mean 'resnet'?"),
    (["train", *TINY, "--preset", "tny"], "Did you mean 'tiny'?"),
    (["train", *TINY, "--model", "lenet", "--depth", "3"], "no --depth for image-classification"),
    (["train", *TINY, "--depth", "3"], "6 n + 2 layers"),
    (["train", *TINY, "--depth", "0"], "A network has blocks."),
    (["train", *TINY, "--set", "learn.gradient.batch_sise=3"], "Did you mean 'learn.gradient.batch_size'?"),
    (["train", *TINY, "--set", "batch=3"], "Did you mean 'learn.gradient.batch_size'?"),
    (["train", *TINY, "--set", "data.lable=x"], "Did you mean 'data.label'?"),
    (["train", *TINY, "--stepz", "3"], "--steps"),
    (["claims", "run", "chain-rul"], "Did you mean 'chain-rule'?"),
    (["claims", "lst"], "Did you mean 'list'?"),
]


@pytest.mark.parametrize(("arguments", "offer"), NEAREST, ids=_label)
def test_a_misspelt_name_gets_the_nearest(arguments: list[str], offer: str) -> None:
    refused(2, *arguments, says=(offer,))
    assert not list(Path().iterdir())  # and leaves nothing behind


WRONG_USE = [
    (["train"], "The task or the data is missing."),
    (["train", "image-classification"], "The task or the data is missing."),
    (["train", *TINY, "--minutes", "1"], "exactly one of minutes, steps and epochs"),
    (["train", *TINY[:-2], "--steps", "0"], "exactly one of minutes, steps and epochs"),
    (["train", *TINY[:-2], "--minutes", "-1"], "exactly one of minutes, steps and epochs"),
    (["train", *TINY[:-2], "--epochs", "nan"], "exactly one of minutes, steps and epochs"),
    (["plan", *TINY, "--epochs", "1"], "exactly one of minutes, steps and epochs"),
    (["train", *TINY[:-2], "--steps", "many"], "--steps"),
    (["train", *TINY, "--seed", "-1"], "--seed"),
    (["train", *TINY, "--device", "tpu"], "This machine has no device 'tpu'."),
    (["train", *TINY, "--device", "cpu:x"], "This machine has no device 'cpu:x'."),
    (["train", *TINY, "--model", "decoder"], "There is no model for image-classification called 'decoder'."),
    (["train", *TINY, "--set", "learn.gradient.batch_size=x"], "wanted: int"),
    (["train", *TINY, "--set", "learn.gradient.batch_size=0"], "batch_size is out of range"),
    (["train", *TINY, "--set", "learn.gradient.optim.method=adm"], "'adamw' or 'muon' or 'sgd'"),
    (["train", *TINY, "--set", "learn.label_smoothing=nan"], "wanted: float"),
    (["train", *TINY, "--set", "trainer.evaluations"], "A setting is written key=value."),
    (["train", *TINY, "--set", "trainer.checkpoint_seconds=-1"], "checkpoint_seconds is out of range"),
    (["train", *TINY, "--set", "prep.channels=2"], "grey or colour"),  # known only once pictures are read
    (["train", *QUICK, "--set", "data.validation_share=0", "--set", "trainer.keep=best"], "Nothing is validated on"),
    (["train", "--resume"], "There is nothing to resume."),
    (["run"], "program"),
    (["export", "program"], "--out"),
    (["data", "from-feedback", "log"], "--out"),
    (["train", "assistant", "arithmetic", "--steps", "1", "--depth", "3"], "a chain of several trainings"),
    (["train", "chat", "arithmetc", "--steps", "1"], "Did you mean 'arithmetic'?"),
    (["train", "assistant", "asistant", "--steps", "1"], "Did you mean 'assistant'?"),
    (["plan", "assistant", "arithmetic", "--set", "sfd.model.depth=1"], "Did you mean 'sft'?"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG_USE, ids=_label)
def test_wrong_use_ends_with_two(arguments: list[str], says: str) -> None:
    out = ["--out", "new"] if arguments[:1] == ["train"] and len(arguments) > 3 else []
    refused(2, *arguments, *out, says=(says,))
    assert not list(Path().iterdir())  # nothing stays: the same --out is free for another try


NOT_THERE = [
    (["run", "nowhere", "x"], "There is no program here."),
    (["eval", "nowhere", "digits"], "There is no program here."),
    (["compare", "nowhere", "elsewhere", "digits"], "There is no program here."),
    (["data", "from-feedback", "nowhere", "--out", "new"], "There is no such log."),
    (["train", "assistant", "nowhere"], "There are no such conversations."),
    (["info", "nowhere"], "There is no program here."),
    (["export", "nowhere", "--out", "new"], "There is no program here."),
    (["watch", "nowhere"], "There is no run here."),
    (["train", "--resume", "--out", "nowhere"], "There is no run to resume here."),
    (["train", "--config", "nowhere.toml"], "These settings cannot be read."),
    (["train", *TINY, "--from", "nowhere"], "There is no program here."),
    (["train", "image-classification", "."], "There are no labelled pictures here."),
    (["train", "text-generation", "."], "There is no text here."),
]


@pytest.mark.parametrize(("arguments", "says"), NOT_THERE, ids=_label)
def test_what_is_not_there_ends_with_one(arguments: list[str], says: str) -> None:
    refused(1, *arguments, says=(says, "where:", "got:"))
    assert not list(Path().iterdir())


def test_a_taken_folder_is_left_alone(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))}
    refused(1, "train", *TINY, "--out", run, says=("already holds a run; nothing was changed", "--resume"))
    assert {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))} == before
    Path("full").mkdir()
    Path("full", "notes.txt").write_text("mine")
    refused(1, "train", *TINY, "--out", "full", says=("already holds other files",))
    assert [path.name for path in Path("full").iterdir()] == ["notes.txt"]


def test_paths_that_the_system_refuses() -> None:
    Path("file").write_text("")
    refused(1, "train", *TINY, "--out", "file/below", says=("The system refused", "Not a directory"))
    refused(1, "train", *TINY, "--out", "n" * 300, says=("The system refused", "File name too long"))


def test_a_run_that_exists_decides_its_own_settings(run: Path) -> None:
    """A setting that has no effect is an error."""
    for given in (["--steps", 5], ["--seed", 0], ["--set", "trainer.patience=1"], ["--preset", "small"]):
        text = refused(2, "train", "--resume", "--out", run, *given, says=("decides its own settings",))
        assert f"got:    {given[0]}" in text
    refused(2, "train", *TINY[:2], "--resume", "--out", run, says=("TASK", "DATA"))
    refused(2, "train", "--config", run / "config.toml", "--minutes", 1, says=("--minutes",))
    refused(2, "train", "--config", run / "config.toml", "--resume", "--out", run, says=("--config",))


def test_damaged_settings(run: Path) -> None:
    text = (run / "config.toml").read_text()
    for name, broken, code, says in (
        ("no-toml", "steps = ", 1, "These settings cannot be read."),
        ("cut", text.partition("[learn]")[0], 1, "no learn, no trainer"),
        ("more", text + "\n[extra]\na = 1\n", 1, "also extra"),
        ("unknown", text.replace("batch_size", "batch_sise"), 2, "Did you mean 'learn.gradient.batch_size'?"),
        ("type", text.replace("seed = 0", 'seed = "x"', 1), 2, "'run.seed'"),
        ("two", text.replace("steps = 2", "steps = 2\nepochs = 1.0"), 2, "The budget is not clear."),
    ):
        assert broken != text
        Path(f"{name}.toml").write_text(broken)
        refused(code, "train", "--config", f"{name}.toml", "--out", name, says=(says,))
        assert not Path(name).exists()


def test_a_mistake_with_json_is_one_object(run: Path) -> None:
    for code, arguments in (
        (2, ["list", "taks"]),
        (2, ["lst"]),
        (2, ["list", "--jsn"]),
        (2, ["run"]),
        (2, ["train", *TINY, "--steps", "many"]),
        (2, ["train", "image-clasification", "digits"]),
        (2, ["plan", *TINY, "--set", "batch=3"]),
        (1, ["run", "nowhere", "x"]),
        (1, ["run", run, "nowhere.png"]),
        (1, ["eval", run, "digits", "--split", "nowhere"]),
        (1, ["info", "nowhere"]),
        (2, ["export", run, "--out", "new", "--format", "onx"]),
        (1, ["watch", "nowhere"]),
    ):
        result = sw2(*arguments, "--json")
        assert result.exit_code == code, result.output
        document = json.loads(result.stdout)
        assert document.keys() == {"error", "message", "where", "wanted", "got", "do"}
        assert document["message"]
    assert "'list'" in json.loads(sw2("lst", "--json").stdout)["message"]


# ------------------------------------------------------------------------------------------------------ what goes well


def test_json_is_one_object_on_standard_output(run: Path) -> None:
    Image.new("L", (8, 8), 99).save("grey.png")
    keys = {
        ("list",): {"tasks", "chains", "models", "weights", "data", "formats"},
        ("list", "data"): {"data"},
        ("plan", *QUICK): {"total_steps", "minutes", "peak_memory", "disk", "settings", "model"},
        ("train", *QUICK, "--out", "new"): {"run", "program", "id", "card"},
        ("train", "--resume", "--out", str(run)): {"run", "program", "id", "card"},
        ("run", str(run), "grey.png"): {"answers"},
        ("eval", str(run), "digits"): {"program", "scores"},
        ("compare", str(run), str(run), "digits"): {"task", "old", "new", "gain", "verdict", "changed"},
        ("info", str(run)): {"task", "id", "nets", "bytes", "capabilities", "card"},
        ("watch", str(run)): set(),
    }
    for arguments, wanted in keys.items():
        result = sw2(*arguments, "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)  # nothing before or after it
        assert isinstance(document, dict)
        assert wanted <= document.keys(), arguments


def test_answers_for_people(run: Path) -> None:
    Image.new("L", (8, 8), 99).save("grey.png")
    result = sw2("run", run, "grey.png")
    assert result.exit_code == 0
    first, *bars = result.stdout.splitlines()
    assert first.startswith("grey.png: ")
    assert first[-1].isdigit()
    assert len(bars) == 5
    assert all("%" in bar for bar in bars)
    assert "accuracy" in sw2("info", run).stdout


def test_records_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"words": Kind("record")}
    show("king", {"words": {"queen": 0.8132, "straße": -0.05, "met": 3}}, record)
    assert capsys.readouterr().out == "king:\n  queen    0.8132\n  straße  -0.0500\n  met           3\n"
    for value, printed in (
        ([1, None], "[1, null]"),
        ({"what": "é", "sure": True}, '{"what": "é", "sure": true}'),
        ({}, "{}"),
    ):
        show("king", {"words": value}, record)
        assert capsys.readouterr().out == f"king: {printed}\n"


def test_settings_without_effect_are_refused(run: Path) -> None:
    Image.new("L", (8, 8), 99).save("grey.png")
    Path("letters.lark").write_text("start: /[a-z]+/")
    values = {"--logit-bias": "3=1", "--json-schema": "{}", "--grammar": "letters.lark"}
    for name in WRITE:
        value = values.get(name, 1)
        refused(2, "run", run, "grey.png", name, value, says=("does not write text", f"got:    {name}"))
    refused(2, "run", run, "grey.png", "--max-tokens", 0, says=("--max-tokens",))
    refused(2, "run", run, "grey.png", "--out", "new.png", says=("This program answers without a picture.",))
    assert not Path("new.png").exists()


def test_fail_under_is_an_exit_code(run: Path) -> None:
    """The program learned for two steps only, so it is worse than 0.99 and better than nothing."""
    assert sw2("eval", run, "digits", "--fail-under", 0.0).exit_code == 0
    failed = sw2("eval", run, "digits", "--fail-under", 0.99)
    assert failed.exit_code == 1
    assert "worse than 0.99" in failed.stderr
    assert list((run / "program" / "evaluations").glob("*-test.json"))


def test_a_config_repeats_the_run_bit_for_bit(run: Path) -> None:
    """A run by minutes, whose steps were measured: the repeat copies the decision instead of measuring again."""
    short = ["train", *QUICK[:4], "--minutes", "0.05", *QUICK[6:], "--out", "timed"]
    assert sw2(*short).exit_code == 0
    result = sw2("train", "--config", "timed/config.toml", "--out", "again", "--json")
    assert result.exit_code == 0, result.output
    for name in ("weights.safetensors", "../config.toml", "../prep.safetensors"):
        assert Path("timed/program", name).read_bytes() == Path("again/program", name).read_bytes(), name
    # After an edit it is another run, which decides for itself.
    config = Path("edited.toml")
    config.write_text(Path("timed/config.toml").read_text().replace("minutes = 0.05", "steps = 3"))
    assert sw2("train", "--config", config, "--out", "edited").exit_code == 0
    journal = Path("edited/journal.jsonl").read_text()
    assert '"total_steps": 3,' in journal


def test_reasons_are_those_of_the_values_that_count(run: Path) -> None:
    result = sw2("train", *QUICK, "--set", "learn.gradient.batch_size=32", "--out", "new")
    assert "learn.gradient.batch_size: 32, set by hand" in result.stderr
    assert "prep.size: 8 pixels: the median picture has 8" in result.stderr


def test_a_reader_that_goes_away_is_no_failure() -> None:
    """`sw2 list | head -1`, with a pipe that is closed before anything is written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "sw2.faces.cli", "list"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write_end)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 0


def test_a_warning_of_ours_is_a_note(tmp_path: Path) -> None:
    """Where nothing can compile the kernels, learning goes by torch and says so."""
    broken = {**os.environ, "SW2_NATIVE": "on", "CXX": "/bin/false", "SW2_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "sw2.faces.cli", "train", *QUICK, "--out", str(tmp_path / "run")],
        env=broken,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\nnote: Batch normalisation goes by torch, which is slower." in done.stderr
    assert "RuntimeWarning" not in done.stderr
    assert "warnings.warn" not in done.stderr


def test_a_chain_says_how_it_divides_its_minutes() -> None:
    rows = json.loads(sw2("plan", "assistant", "arithmetic", "--minutes", 10, "--json").stdout)["stages"]
    assert sum(row["minutes"] for row in rows) == pytest.approx(10)
    assert [row["stage"] for row in rows][:3] == ["pretrain", "sft", "reward"]
    assert [row["stage"] for row in rows if row["beside"]] == ["sft-more"]
    weights = sw2("plan", "assistant", "--minutes", 10, "--from", "smollm2-135m-instruct")
    assert "chat on assistant, from smollm2-135m-instruct" in weights.stdout
    assert "pretrain" not in weights.stdout


def test_two_programs_are_compared_answer_by_answer(run: Path) -> None:
    assert sw2("train", *QUICK[:-2], "--steps", 40, "--out", "better").exit_code == 0
    found = json.loads(sw2("compare", run, "better", "digits", "--json").stdout)
    old, new = (found[side]["score"]["details"]["cases"] for side in ("old", "new"))
    gains = [after - before for before, after in zip(old, new, strict=True)]
    assert (found["better"], found["worse"]) == (gains.count(1), gains.count(-1))
    assert found["gain"] == pytest.approx(sum(gains) / len(gains))
    assert found["interval"][0] <= found["gain"] <= found["interval"][1]
    for each in found["changed"]:
        assert each["gain"] == gains[each["number"]]
        assert each["old"] != each["new"]
    shown = sw2("compare", run, "better", "digits").stdout
    assert shown.count("better: picture ") == found["better"]
    assert shown.splitlines()[-1].startswith(f"{found['verdict']}: ")


def test_what_cannot_be_compared(run: Path) -> None:
    Path("texts").mkdir()
    for number in range(30):
        Path("texts", f"{number}.txt").write_text(f"text {number} " * 20)
    assert sw2("train", "text-generation", "texts", "--preset", "tiny", "--steps", 1, "--out", "lm").exit_code == 0
    refused(2, "compare", run, "lm", "texts", says=("answer different questions", "text-generation"))
    refused(2, "compare", "lm", "lm", "texts", says=("cannot be compared one by one", "bits per byte"))
    refused(2, "compare", "lm", "lm", "in-context", says=("not compared one by one", "sw2 eval PROGRAM in-context"))
    refused(1, "compare", run, run, "digits", "--split", "nowhere", says=("no split 'nowhere'",))
