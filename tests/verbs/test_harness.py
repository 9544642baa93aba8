"""What `lm-eval` asks is answered by the network's own probabilities, by that harness's conventions."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import MissingExtra, UsageError
from sw2.catalog import catalog
from sw2.core.program import Net, Program
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.task import TextGeneration, TextWriter
from sw2.domains.language.tokenizer import Tokenizer
from sw2.faces import lm_eval
from sw2.parts.decoding.sampling import Sampling
from sw2.verbs.harness import Harness

CONTEXT = 24
WORDS = "the quick brown fox jumps over the lazy dog and naïve façades "


def _program(begins: str = "<|endoftext|>") -> Program:
    tokenizer = Tokenizer.train([WORDS * 20], 300)
    prep = TextPrep(tokenizer, PrepConfig(vocab_size=300), Controls(begins=begins))
    config = Decoder.Config(
        vocab_size=tokenizer.vocab_size, context=CONTEXT, width=32, depth=2, heads=4, kv_heads=2, hidden=48,
        init_deviation=0.3,
    )  # fmt: skip
    return Program.assemble(
        task=TextGeneration(),
        runtime=TextWriter,
        nets={"decoder": Net("decoder", Decoder(config))},
        prep=prep,
        provider=catalog().provider("text-generation"),
    )


@pytest.fixture(scope="module", params=["<|endoftext|>", ""], ids=["begins", "bare"])
def writer(request: pytest.FixtureRequest) -> TextWriter:
    """A writer whose prompts begin with a control token, and one whose do not."""
    found = _program(request.param).runtime
    assert isinstance(found, TextWriter)
    return found


def _by_hand(writer: TextWriter, tokens: list[int], scored: int) -> tuple[float, bool]:
    """How likely the last `scored` tokens are, and whether each is the likeliest."""
    with torch.inference_mode():
        logits = writer.net({"tokens": torch.tensor([tokens[:-1]])})["logits"][0].log_softmax(-1)[-scored:]
    wanted = torch.tensor(tokens[-scored:])
    right = bool((logits.argmax(-1) == wanted).all())
    return float(logits.gather(-1, wanted[:, None]).sum()), right


def test_likelihoods_are_those_of_the_network(writer: TextWriter) -> None:
    encode = writer.prep.tokenizer.encode
    start = writer.encode_prompt("")
    first = start if writer.prep.controls.begins else []
    pairs = [("the quick", " brown fox"), ("the quick ", "brown fox"), ("", "lazy dog"), ("  ", "lazy")]
    found = Harness(writer).loglikelihoods(pairs)
    whole = [*first, *encode("the quick brown fox")]
    expected = _by_hand(writer, whole, len(whole) - len(first) - len(encode("the quick")))
    assert found[0] == pytest.approx(expected)
    assert found[1] == pytest.approx(expected), "spaces at the end of a context belong to the continuation"
    for answer, text in ((found[2], "lazy dog"), (found[3], "  lazy")):
        tokens = [*start, *encode(text)]
        assert answer == pytest.approx(_by_hand(writer, tokens, len(tokens) - 1))


def test_what_greedy_writing_gives_is_greedy(writer: TextWriter) -> None:
    harness = Harness(writer)
    (written,) = harness.texts([("the quick", {"max_gen_toks": 3})])
    tokens = writer.encode_prompt("the quick")
    logits = []
    for _ in range(3):
        with torch.inference_mode():
            logits = writer.net({"tokens": torch.tensor([tokens])})["logits"][0, -1]
        tokens.append(int(logits.argmax()))
    answer = tokens[len(writer.encode_prompt("the quick")) :]
    assert written == writer.prep.tokenizer.decode(answer)
    assert _by_hand(writer, tokens, 3)[1]


def test_long_contexts_lose_their_beginning_and_are_counted(writer: TextWriter) -> None:
    harness = Harness(writer)
    long = WORDS * 3
    (found,) = harness.loglikelihoods([(long, " dog")])
    whole = writer.encode_prompt(long.rstrip() + "  dog")[-CONTEXT - 1 :]
    scored = len(writer.encode_prompt(long + " dog")) - len(writer.encode_prompt(long.rstrip()))
    assert found[0] == pytest.approx(_by_hand(writer, whole, scored)[0])
    assert harness.cut == 1
    short = writer.encode_prompt(long)[-(CONTEXT - 4) :]
    written = "".join(piece.text for piece in writer.generate(short, Sampling(temperature=0), 4))
    assert harness.texts([(long, {"max_gen_toks": 4})]) == [written]
    with pytest.raises(UsageError, match="too long to score"):
        harness.loglikelihoods([("the", long)])


@given(st.text("the quickbrown", min_size=0, max_size=200))
def test_every_token_of_a_text_counts_once_with_a_full_context_at_the_end(text: str) -> None:
    writer = _WRITERS[0]
    tokens = writer.prep.tokenizer.encode(text)
    line = [*writer.encode_prompt(""), *tokens]
    expected = 0.0
    for end in [*range(CONTEXT, len(tokens), CONTEXT), len(tokens)]:
        begin = (end - 1) // CONTEXT * CONTEXT if end else 0
        if end > begin:
            expected += _by_hand(writer, line[max(0, end - CONTEXT) : end + 1], end - begin)[0]
    assert Harness(writer).rolling([text, ""]) == pytest.approx([expected, 0.0], abs=1e-4)


_WRITERS: list[Any] = [_program().runtime]


def test_settings_of_writing(writer: TextWriter) -> None:
    harness = Harness(writer)
    plain, stopped, drawn, again = harness.texts(
        [
            ("the quick", {"until": [], "max_new_tokens": 8}),
            ("the quick", {"until": "e", "max_gen_toks": 8, "temperature": 0.7, "do_sample": False}),
            ("the quick", {"do_sample": True, "temperature": 5.0, "max_gen_toks": 8}),
            ("the quick", {"do_sample": True, "temperature": 5.0, "max_gen_toks": 8}),
        ]
    )
    assert stopped == plain.split("e")[0]
    assert drawn == again != plain
    with pytest.raises(UsageError, match="not known") as caught:
        harness.texts([("the", {"num_beams": 4})])
    assert caught.value.got == "num_beams"


# ----------------------------------------------------------------------------------------------------------- the face


@dataclass
class _Request:
    args: tuple[Any, ...]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type[Any]]]:
    """The two names that the face takes from lm-eval, which the tests of seconds do without."""
    found: dict[str, type[Any]] = {}

    def register_model(name: str) -> Callable[[type[Any]], type[Any]]:
        return lambda cls: found.setdefault(name, cls)

    api, kind, registry = (types.ModuleType(f"lm_eval{end}") for end in (".api", ".api.model", ".api.registry"))
    kind.LM = type("LM", (), {})  # type: ignore[attr-defined]
    registry.register_model = register_model  # type: ignore[attr-defined]
    for name in ("lm_eval", "lm_eval.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, module in (("", api), (".model", kind), (".registry", registry)):
        monkeypatch.setitem(sys.modules, f"lm_eval.api{name}", module)
    lm_eval.model.cache_clear()
    yield found
    lm_eval.model.cache_clear()


def test_the_class_answers_as_the_harness(
    registered: dict[str, type[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _program().save(tmp_path / "program")
    made = lm_eval.model()(program=str(tmp_path / "program"), batch_size=1, max_batch_size=None, device=None)
    assert registered == {"sw2": type(made)}
    harness = Harness(_WRITERS[0])
    assert made.loglikelihood([_Request(("the", " fox"))]) == harness.loglikelihoods([("the", " fox")])
    assert made.loglikelihood_rolling([_Request((WORDS,))]) == harness.rolling([WORDS])
    asked = ("the", {"until": ["."], "max_gen_toks": 5})
    assert made.generate_until([_Request(asked)]) == harness.texts([asked])
    assert not caplog.records
    made.loglikelihood([_Request((WORDS * 3, " fox"))])
    assert caplog.messages == ["1 contexts were too long and lost their beginning"]
    with pytest.raises(UsageError, match="on the CPU"):
        lm_eval.model()(program=str(tmp_path / "program"), device="cuda:0")


def test_without_lm_eval_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    lm_eval.model.cache_clear()
    with pytest.raises(MissingExtra) as caught:
        lm_eval.model()
    assert caught.value.do == "pip install lm-eval"
    with pytest.raises(SystemExit, match="pip install lm-eval"):
        lm_eval.main()


@pytest.mark.slow
def test_lm_eval_gets_our_numbers_and_those_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real harness in an environment of its own, beside this one's torch; asks the package registry."""
    monkeypatch.delenv("PIP_NO_INDEX")
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, capture_output=True)
    (packages,) = (tmp_path / "venv").glob("lib/*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "beside.pth").write_text("\n".join([str(root / "src"), *ours]))
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", str(root / "constraints.txt")]
    done = subprocess.run([*install, "lm-eval[hf]"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _program("").save(tmp_path / "program")
    script = [python, str(root / "benchmarks" / "lm_eval_parity.py"), str(tmp_path / "program"), "--json"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout.splitlines()[-1])
    for way in ("sw2 itself", "transformers"):
        assert differences[way]["choices"] < 1e-4
        assert differences[way]["texts"] < 1e-4
        assert differences[way]["answers that differ"] == 0
