"""Models of other toolkits through the command line: run, chat, export, go on learning, what cannot be opened."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from sw2.base.seed import generator
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.formats.writing import convert
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.tokenizer import Tokenizer
from sw2.faces.cli import app

TEMPLATE = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|endoftext|>' }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.gguf and the same model as a Hugging Face folder, both with a chat template."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer.train(["a small tokenizer for small tests"] * 9, 280)
    config = Decoder.Config(
        vocab_size=tokenizer.vocab_size, context=48, width=32, depth=1, heads=2, kv_heads=1, hidden=32
    )
    net = Decoder(config)
    net.initialise(generator(7, "weights"))
    prep = TextPrep(tokenizer, PrepConfig(), Controls(chat_template=TEMPLATE))
    for name in ("gguf", "huggingface"):
        (home / name).mkdir()
        convert(net.requires_grad_(False), prep, name, home / name)
    return home


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a refusal must leave alone is looked for here."""
    monkeypatch.chdir(tmp_path)


def sw2(*arguments: object, text: str | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    import importlib

    from sw2.faces.cli import VERBS

    for verb in VERBS:
        importlib.import_module(f"sw2.faces.cli.{verb}_command")
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)
    return done.exit_code, done.stdout, done.stderr


def test_both_forms_write_the_same_text(model: Path) -> None:
    paths = (model / "gguf/model.gguf", model / "huggingface")
    answers = [sw2("run", path, "a small", "--temperature", 0, "--max-tokens", 9, "--json") for path in paths]
    assert answers[0] == answers[1]
    code, out, _ = answers[0]
    assert code == 0
    assert len(json.loads(out)["answers"][0]["text"]) > 0


def test_info_says_what_was_read(model: Path) -> None:
    code, out, _ = sw2("info", model / "gguf/model.gguf")
    assert code == 0
    assert "model.gguf" in out
    assert "Chat" in out
    assert "network       decoder (decoder), 15.1 k parameters" in out
    assert "size          60.5 kB" in out


def test_a_conversation_through_a_pipe(model: Path) -> None:
    said = "hello\n\n/reset\nagain\n/exit\nnever read\n"
    options = ["--max-tokens", 6, "--json", "--system", "be brief"]
    code, out, err = sw2("chat", model / "gguf/model.gguf", *options, text=said)
    assert (code, err) == (0, "")
    messages = json.loads(out)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert messages[1]["content"] == "again"


def test_answers_obey_a_constraint(model: Path, tmp_path: Path) -> None:
    letters = tmp_path / "letters.lark"
    letters.write_text('start: "(" start ")" | "ab"')
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], '
                      '"additionalProperties": false}')  # fmt: skip
    # The answer alone is printed.
    code, out, err = sw2("run", model / "gguf/model.gguf", "hi", "--choice", "left", "--choice", "right")
    assert (code, out in ("left\n", "right\n"), err) == (0, True, "")
    code, out, _ = sw2("run", model / "gguf/model.gguf", "hi", "yo", "--json-schema", schema, "--json", "--seed", 3)
    assert code == 0
    for answer in json.loads(out)["answers"]:
        assert answer["finished"] == "length" or isinstance(json.loads(answer["text"])["ok"], bool)
    code, out, err = sw2("chat", model / "gguf/model.gguf", "--regex", "[0-9]{3}", text="hello\n")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"[0-9]{3}\n", out)
    plain = _without_template(model, tmp_path)
    code, out, err = sw2("run", plain, "a small", "--grammar", letters, "--max-tokens", 40)
    assert code == 0
    assert re.fullmatch(r"\(*ab\)*\n", out) or "cut off" in err
    code, out, err = sw2("run", plain, "a small", "--regex", "a{30}", "--max-tokens", 5)
    assert (code, re.fullmatch(r"a{5,29}\n", out) is not None) == (0, True)
    assert "answer 1 was cut off (length) and is not complete" in err
    code, out, err = sw2("chat", model / "gguf/model.gguf", "--regex", "a{30}", "--max-tokens", 5, text="hello\n")
    assert "the answer was cut off and is not complete" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--regex", "[0-9"], ("the regular expression", "unclosed character class")),
        (["--json-schema", "{not"], ("the JSON Schema, line 1, column 2", "wanted: JSON")),
        (["--json-schema", "missing.json"], ("There is no such file.", "where:  --json-schema")),
        (["--regex", "a", "--choice", "b"], ("An answer has one constraint.", "--regex and --choice")),
        (["--choice", ""], ("the choice", "at least one text that is not empty")),
    ],
)
@pytest.mark.parametrize("verb", ["run", "chat"])
def test_constraints_that_cannot_be_followed_are_explained(
    model: Path, verb: str, options: list[str], says: tuple[str, ...]
) -> None:
    code, out, err = sw2(verb, model / "gguf/model.gguf", *(["hi"] if verb == "run" else []), *options, text="hi\n")
    assert (code, out) == (2, "")
    assert all(part in err for part in says)


def test_a_constraint_and_tools_exclude_each_other(model: Path) -> None:
    code, _, err = sw2("chat", model / "gguf/model.gguf", "--regex", "a", "--tool", "calculator", text="hi\n")
    assert code == 2
    assert "An answer under a constraint cannot call tools." in err


def test_a_conversation_longer_than_the_context_is_explained(model: Path) -> None:
    code, _, err = sw2("chat", model / "gguf/model.gguf", text="many words " * 60 + "\n")
    assert code == 2
    assert "The prompt is too long." in err


def _without_template(model: Path, tmp_path: Path) -> Path:
    plain = tmp_path / "plain"
    for file in (model / "huggingface").iterdir():
        plain.mkdir(exist_ok=True)
        if file.name != "chat_template.jinja":
            (plain / file.name).write_bytes(file.read_bytes())
    return plain


def test_a_program_that_does_not_chat(model: Path, tmp_path: Path) -> None:
    code, _, err = sw2("chat", _without_template(model, tmp_path), text="hello\n")
    assert code == 1
    assert "cannot 'Chat'" in err


def test_export_and_back(model: Path, tmp_path: Path) -> None:
    code, out, _ = sw2("export", model / "huggingface", "--format", "gguf", "--out", tmp_path / "out")
    assert code == 0
    assert "largest difference 0.0e+00" in out
    assert (tmp_path / "out/model.gguf").read_bytes() == (model / "gguf/model.gguf").read_bytes()
    code, _, err = sw2("export", model / "huggingface", "--format", "gguff", "--out", tmp_path / "other")
    assert code == 2
    assert "Did you mean 'gguf'?" in err
    assert not (tmp_path / "other").exists()


def test_learning_goes_on_from_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(12):
        (tmp_path / f"texts/{number}.txt").write_text(f"small tests for a tokenizer, number {number}\n" * 40)
    given = ["--from", model / "gguf/model.gguf", "--steps", 2, "--preset", "tiny", "--out", tmp_path / "run"]
    code, _, err = sw2("train", "text-generation", tmp_path / "texts", *given)
    assert code == 0, err
    code, out, _ = sw2("info", tmp_path / "run")
    assert "Chat" in out  # the tokenizer and its template go with the weights


@pytest.mark.parametrize("name", ["nothing.gguf", "folder"])
def test_what_cannot_be_opened(name: str, tmp_path: Path) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"architectures": ["MambaForCausalLM"]}')
    code, _, err = sw2("run", tmp_path / name, "x")
    assert code == 1
    assert ("LlamaForCausalLM" in err) == (name == "folder")
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------- files that do not fit together


def copied(model: Path, tmp_path: Path, **changes: object) -> Path:
    """The Hugging Face folder with other settings."""
    folder = shutil.copytree(model / "huggingface", tmp_path / "model")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | changes))
    return folder


def refused(code: int, *arguments: object) -> str:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    got, out, err = sw2(*arguments)
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    return err


def test_weights_that_do_not_fit_are_all_named_at_once(model: Path, tmp_path: Path) -> None:
    text = refused(1, "run", copied(model, tmp_path, intermediate_size=40, tie_word_embeddings=False), "x")
    assert "These weights do not fit their config." in text
    for name in (
        "mlp.gate_proj.weight is [32, 32], wanted [40, 32]",
        "mlp.up_proj",
        "mlp.down_proj",
        "missing lm_head",
    ):
        assert name in text


def test_a_tokenizer_with_more_tokens_than_the_embedding(model: Path, tmp_path: Path) -> None:
    text = refused(1, "run", copied(model, tmp_path, vocab_size=200), "x")
    assert "The tokenizer has more tokens than the network." in text
    assert "at most the 200 rows of the embedding" in text


def test_a_tokenizer_with_fewer_tokens_than_the_embedding_is_fine(model: Path, tmp_path: Path) -> None:
    """Embeddings are padded to round numbers; a token that has no text writes none."""
    folder = copied(model, tmp_path)
    weights = load_file(folder / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    padded = torch.cat([table, 3 * table[:1].abs().expand(40, -1)])
    save_file({**weights, "model.embed_tokens.weight": padded}, folder / "model.safetensors")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "vocab_size": len(padded)}))
    code, out, err = sw2("run", folder, "a small", "--max-tokens", 20, "--temperature", 5, "--json")
    assert code == 0, err
    answer = json.loads(out)["answers"][0]
    assert any(token["token"] >= len(table) for token in answer["tokens"])
    assert all(not token["bytes"] for token in answer["tokens"] if token["token"] >= len(table))


def test_a_prompt_longer_than_the_context(model: Path) -> None:
    text = refused(2, "run", model / "gguf/model.gguf", "many words " * 60)
    assert "The prompt is too long." in text
    assert "wanted: 1 to 47 tokens" in text


@pytest.mark.parametrize("form", ["gguf/model.gguf", "huggingface"])
def test_weights_that_do_not_fit_in_memory(model: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw2.domains.language.formats.reading.available_memory", lambda: 1000)
    text = refused(1, "run", model / form, "x")
    assert "These weights do not fit in memory." in text
    assert "million weights in float32" in text


def test_a_damaged_file_in_each_form(model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((model / "gguf/model.gguf").read_bytes()[:-2000])
    assert "This GGUF file is damaged." in refused(1, "run", cut, "x")
    folder = copied(model, tmp_path)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-2000])
    assert "These weights are damaged." in refused(1, "run", folder, "x")


@pytest.mark.parametrize("verb", ["run", "chat", "info", "export"])
def test_misspelt_weights_get_the_nearest_name(verb: str, tmp_path: Path) -> None:
    rest = {"run": ["x"], "export": ["--out", str(tmp_path / "out")]}.get(verb, [])
    text = refused(1, verb, "smollm2-135m-instrukt", *rest)
    assert "There is no program here." in text
    assert "Did you mean 'smollm2-135m-instruct'?" in text
