"""Prompts as everybody meets them: on a real network, from the command line, saved, and those that come along."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import sw2
from sw2.base.errors import ProgramError, UsageError
from sw2.base.seed import generator
from sw2.catalog import catalog
from sw2.core.capabilities import Ask
from sw2.core.program import Net, Program
from sw2.core.task import Context
from sw2.domains.language.chat.task import ChatTask
from sw2.domains.language.chat.template import IM_END, IM_START, own_controls
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.tokenizer import Tokenizer
from sw2.domains.prompts.expecting import met, named
from sw2.domains.prompts.file import read_prompt
from sw2.faces.cli import VERBS, app
from sw2.testing import check_program

for _verb in VERBS:
    importlib.import_module(f"sw2.faces.cli.{_verb}_command")

SHIPPED = Path(importlib.import_module("sw2.domains.prompts").__file__ or "").parent / "shipped"

EXTRACT = """\
+++
about = "What a review says."
program = "talker"
inputs.review = "text"
inputs.tone = { options = ["short", "long"], default = "short" }
output = { mood = ["good", "bad"], stars = { kind = "integer", least = 1, most = 5 } }
[writing]
max_tokens = 60
[[examples]]
review = "It leaks."
answer = { mood = "bad", stars = 1 }
[[examples]]
review = "Fine."
answer = { mood = "good", stars = 5 }
[[tests]]
review = "Bad."
expect = { mood = "bad" }
[[tests]]
review = "Good."
expect = { mood = "good" }
+++ user
{{ review }}
"""


@pytest.fixture(scope="module")
def talker() -> Program:
    """A network of random weights that was made for chat."""
    tokenizer = Tokenizer.train(["user assistant review mood good bad stars"] * 3, 300)
    prep = TextPrep(tokenizer.with_control(IM_START, IM_END), PrepConfig(), own_controls(Controls()))
    shape = {"width": 32, "depth": 2, "heads": 2, "kv_heads": 2, "hidden": 48}
    net = Decoder(Decoder.Config(vocab_size=prep.tokenizer.vocab_size, context=1600, **shape))
    net.initialise(generator(3, "weights"))
    return Program.assemble(
        task=ChatTask(),
        runtime=ChatWriter,
        nets={"decoder": Net("decoder", net)},
        prep=prep,
        provider=catalog().provider("chat"),
    )


@pytest.fixture(autouse=True)
def in_its_folder(talker: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    talker.save("talker")
    talker.save("other")
    Path("extract.toml").write_text(EXTRACT, encoding="utf-8")


def _sw2(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_whatever_the_network_says_the_answer_has_its_form() -> None:
    program = sw2.load("extract.toml")
    for answer in program.map(["x", {"review": "y </review>", "tone": "long"}]):
        assert set(answer["answer"]) == {"mood", "stars"}
        assert answer["answer"]["mood"] in ("good", "bad")
        assert isinstance(answer["answer"]["stars"], int)


def test_a_prompt_keeps_the_contract(tmp_path: Path) -> None:
    loaded = check_program(catalog(), sw2.load("extract.toml"), "Fine.", tmp_path / "check")
    assert list(loaded.task.inputs) == ["review", "tone"]
    assert loaded.uses["model"].path is not None


def test_its_identity_is_its_text_and_what_it_runs_on() -> None:
    first = sw2.load("extract.toml").id
    assert sw2.load("extract.toml@other").id == first, "the same program in another place"
    Path("extract.toml").write_text(EXTRACT.replace("Fine.", "Well."), encoding="utf-8")
    assert sw2.load("extract.toml").id != first


def test_run_takes_files_texts_and_names() -> None:
    Path("review.txt").write_text("It broke.", encoding="utf-8")
    result = _sw2("run", "extract.toml", "review.txt", "A text.", "tone=long")
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 2
    assert answers[0] == sw2.load("extract.toml")({"review": "It broke.", "tone": "long"})["answer"]
    both = json.loads(_sw2("run", "extract.toml", "x", "--json").stdout)["answers"][0]
    assert set(both) == {"answer", "text", "finished", "tokens", "agreed", "steps"}
    cut = _sw2("run", "extract.toml", "x", "--max-tokens", "2")
    assert "was cut off (length)" in cut.stderr


def test_eval_compare_info_and_list() -> None:
    scores = json.loads(_sw2("eval", "extract.toml", "--json").stdout)["scores"]
    assert [score["name"] for score in scores[:2]] == ["passed", "complete"]
    assert scores[1]["value"] == 1.0
    assert {score["of"] for score in scores} == {"program", "always the same answer"}
    found = json.loads(_sw2("compare", "extract.toml", "extract.toml@other", "--json").stdout)
    assert (found["gain"], found["changed"]) == (0.0, [])
    both = _sw2("compare", "extract.toml", "extract.toml@other", "--set", "data.orders=2").stdout
    assert "over 4 held-out examples" in both
    assert all(
        f"\n{name} " in both for name in ("complete", "right: mood", "passed, worst order", "passed, best order")
    )
    told = _sw2("info", "extract.toml").stdout
    assert "uses          a program for chat (model)" in told
    assert "What a review says." in told
    assert "proofread" in _sw2("list", "prompts").stdout
    ordered = json.loads(_sw2("eval", "extract.toml", "--set", "data.orders=2", "--json").stdout)["scores"]
    assert ordered[0]["examples"] == 4
    assert ordered[0]["details"]["repeats"] == [0, 1, 0, 1]


def test_orders_that_one_of_two_prompts_does_not_have() -> None:
    shown = EXTRACT[: EXTRACT.index('[[examples]]\nreview = "Fine."')] + EXTRACT[EXTRACT.index("[[tests]]") :]
    Path("fewer.toml").write_text(shown, encoding="utf-8")
    refused = _sw2("compare", "extract.toml", "fewer.toml", "--set", "data.orders=2")
    assert refused.exit_code == 1
    assert "at most 1, as the prompt shows 1 examples" in refused.output


LANGUAGES = {
    "German": ("Was sagt die Bewertung?", "stimmung", ["gut", "schlecht"], "Größe passt, schöner Hut!"),
    "French": ("Que dit cet avis ?", "humeur", ["ravi", "déçu"], "Théière cassée à l’arrivée…"),
    "Russian": ("О чём отзыв?", "настроение", ["хорошее", "плохое"], "Чайник протекает."),
    "Arabic": ("ماذا يقول التقييم؟", "المزاج", ["جيد", "سيئ"], "الإبريق يسرّب الماء."),
    "Japanese": ("このレビューの内容は？", "気分", ["良い", "悪い"], "やかんが漏れる。"),
    "Hindi": ("समीक्षा क्या कहती है?", "भाव", ["अच्छा", "बुरा"], "केतली टपकती है।"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_prompt_in_another_language(language: str) -> None:
    asks, field, options, review = LANGUAGES[language]
    said = json.dumps(options, ensure_ascii=False)
    Path("prompt.toml").write_text(
        f"""\
+++
about = {json.dumps(asks, ensure_ascii=False)}
program = "talker"
inputs.review = "text"
output = {{ "{field}" = {said} }}
writing.max_tokens = 120
[[examples]]
review = "{review}"
answer = {{ "{field}" = "{options[1]}" }}
[[tests]]
review = "{review}"
expect = {{ "{field}" = {{ any = {said} }} }}
+++ user
{asks}
{{{{ review }}}}
""",
        encoding="utf-8",
    )
    program = sw2.load("prompt.toml")
    last = program.runtime.prompt.conversation(review)[-1]["content"]  # type: ignore[attr-defined]
    assert last == f"{asks}\n<review>\n{review}\n</review>"
    Path("letter.txt").write_text(review, encoding="utf-8")
    answer = json.loads(_sw2("run", "prompt.toml", "letter.txt").stdout)
    assert list(answer) == [field]
    assert answer[field] in options
    scores = json.loads(_sw2("eval", "prompt.toml", "--json").stdout)["scores"]
    assert (scores[0]["name"], scores[0]["value"]) == ("passed", 1.0)
    Path("cases.csv").write_text(f'review,expect.{field}\n"{review}",{answer[field]}\n', encoding="utf-8")
    assert json.loads(_sw2("eval", "prompt.toml", "cases.csv", "--json").stdout)["scores"][0]["value"] == 1.0
    voted = json.loads(_sw2("run", "prompt.toml", review, "--votes", "2", "--json").stdout)["answers"][0]
    assert voted["answer"][field] in options


WRONG = [
    (["run", "extract.toml", "tone=loud", "x"], 2, "loud"),
    (["run", "extract.toml", "tone=long"], 2, "The input 'review' is missing."),
    (["run", "extract.toml", "x", "review=y"], 2, "said twice"),
    (["run", "extract.toml", "x", "--regex", "a"], 2, "--regex"),
    (["run", "extract.toml@nowhere", "x"], 1, "There is no program here."),
    (["run", "extract.toml@extract.toml", "x"], 1, "cannot run on itself"),
    (["run", "nowhere.toml", "x"], 1, "There is no prompt here."),
    (["run", "extrakt", "x"], 1, "Did you mean 'extract'?"),
    (["run", "talker@other", "x"], 1, "There is no program here."),
    (["eval", "talker"], 2, "brings no tests"),
    (["eval", "extract.toml", "digits"], 1, "This program cannot"),
    (["eval", "extract.toml", "--set", "data.orders=0"], 2, "orders"),
    (["train", "prompt", "extract.toml", "--steps", "1"], 2, "There is no task called 'prompt'."),
    (["export", "extract.toml", "--out", "new"], 1, "in no other format"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), WRONG, ids=lambda value: str(value)[-40:])
def test_wrong_use(arguments: list[str], code: int, says: str) -> None:
    result = _sw2(*arguments)
    assert says in result.output, result.output
    assert result.exit_code == code


def test_prompts_that_lead_to_each_other() -> None:
    talk = (
        '+++\nabout = "x"\nprogram = "{}"\ninputs.talk = "conversation"\nwriting.max_tokens = 4\n+++ system\nHello.\n'
    )
    for name, other in (("a", "b"), ("b", "a")):
        Path(f"{name}.toml").write_text(talk.format(f"{other}.toml"), encoding="utf-8")
    with pytest.raises(ProgramError, match="cannot run on itself"):
        sw2.load("a.toml")
    Path("b.toml").write_text(talk.format("talker"), encoding="utf-8")
    said = sw2.load("a.toml")([{"role": "user", "content": "x"}])
    assert isinstance(said["answer"], str), "a prompt may run on one that converses"


# ------------------------------------------------------------------------------------------------ those that come along


@pytest.mark.parametrize("name", sorted(catalog().files))
def test_what_comes_along_can_be_read_and_judged(name: str) -> None:
    prompt = read_prompt((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"), name)
    assert len(prompt.tests) >= 9
    if not prompt.converses:
        shown = {json.dumps(dict(shot.values)) for shot in prompt.examples}
        assert not shown & {json.dumps(dict(case.values)) for case in prompt.tests}, "tests are held out"
    for case in prompt.tests:
        wanted = case.expect if prompt.output.kind == "record" else {"": case.expect}
        answers = {field: found[0] for field, each in wanted.items() if (found := named(each))}
        if len(answers) == len(wanted) and prompt.output.kind == "record":
            assert all(met(case.expect, answers, prompt.output).values()), f"{case.where}: nothing could pass"


def test_all_that_is_in_the_folder_is_named() -> None:
    assert sorted(path.stem for path in SHIPPED.glob("*.toml")) == sorted(catalog().files)


def test_a_prompt_that_comes_along_runs_on_what_is_there() -> None:
    program = catalog().program("proofread@talker", Context())
    outcome = program.capability(Ask).ask(["He go."], max_tokens=4)[0]  # type: ignore[type-abstract]
    assert outcome.answer == outcome.text.strip()
    assert outcome.tokens == 4


def test_a_second_chance_from_the_command_line() -> None:
    voted = json.loads(_sw2("run", "extract.toml", "x", "--votes", "3", "--json").stdout)["answers"][0]
    assert len(voted["steps"]) == 3
    assert 0 < voted["agreed"] <= 1
    talk = json.loads(_sw2("run", "talker", "Hello", "--votes", "2", "--max-tokens", "4", "--json").stdout)
    assert len(talk["answers"][0]["steps"]) == 2
    reviewed = json.loads(_sw2("run", "extract.toml", "x", "--review", "1", "--json").stdout)["answers"][0]
    assert set(reviewed["answer"]) == {"mood", "stars"}


def test_a_draft_is_read_without_a_file_and_without_its_program() -> None:
    for name in catalog().files:
        source = catalog().text(name)
        draft = catalog().draft(source, f"{name}.toml")
        assert draft.program == "smollm2-135m-instruct"
        assert draft.facts["tests"] > 0
        assert list(draft.inputs)
    source = catalog().text("extract")
    with pytest.raises(ProgramError) as caught:
        catalog().draft(source.replace("}}", ""), "mine.toml")
    assert str(caught.value.where).startswith("mine.toml, line ")
    with pytest.raises(UsageError, match="No written program is called so"):
        catalog().draft(source, "mine.txt")
