"""Chains: several trainings that make one program, divided, compared, interrupted and gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import sw2
from sw2.base.errors import Interrupted, RunError, UnknownName, UsageError
from sw2.catalog import Catalog, _built_in, _Owned
from sw2.core.domain import ChainEntry, ChainRequest, Domain, Stage
from sw2.core.run import Run
from sw2.core.task import Context, Score
from sw2.core.trainer import Budget, Silent
from sw2.testing import check_domain
from sw2.verbs import chain
from sw2.verbs.curves import current_run
from sw2.verbs.stages import Ended, change, changes, yardsticks
from sw2.verbs.train import Order


def stages(request: ChainRequest) -> Sequence[Stage]:
    """Two lessons, and a control of the second."""
    more = ("learn.gradient.optim.learning_rate=1e-3",)
    return [
        Stage(name="first", task="text-generation", data=request.data, share=1, why="Reads.",
              settings=("trainer.evaluations=2",)),
        Stage(name="second", task="text-generation", data=request.data, share=2, why="Reads on.", start="first",
              settings=more),
        Stage(name="control", task="text-generation", data=request.data, share=1, why="Reads on as before.",
              start="first", beside=("second",)),
    ]  # fmt: skip


@pytest.fixture
def registry() -> Catalog:
    domain = Domain(
        name="roads",
        summary="A chain for tests.",
        chains={
            "two-lessons": ChainEntry(
                target="tests.verbs.test_chain:stages", task="text-generation", summary="Two lessons.", data="texts"
            )
        },
    )
    found = Catalog([*_built_in(), _Owned(domain, "sw2-roads", "1")])
    found.stages = lambda name: stages  # type: ignore[method-assign,assignment] (this file has no import path)
    return found


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        words = [f"line {i} of text {number}: {'ab' * (i % 5)} {i * number}" for i in range(20)]
        (folder / f"{number}.txt").write_text("\n".join(words))
    return folder


def order(texts: Path, *settings: str, budget: Budget | None = None) -> Order:
    return Order(
        task="two-lessons",
        data=str(texts),
        preset="tiny",
        budget=budget or Budget(steps=3),
        settings=settings,
    )


class Stopping(Silent):
    """Ends a chain when a stage begins, as Ctrl-C between two steps does."""

    def __init__(self, word: str) -> None:
        self.word = word

    def note(self, text: str) -> None:
        if self.word in text:
            raise Interrupted("Stopped.", do="something else")


def test_a_chain_makes_one_program_and_goes_on_where_it_was_stopped(
    registry: Catalog, texts: Path, tmp_path: Path
) -> None:
    check_domain(registry, registry.domains["roads"])
    whole = chain.train(registry, order(texts), tmp_path / "whole", Context())
    assert whole.task.name == "text-generation"
    assert whole.path == tmp_path / "whole" / "program"
    journal = Run(tmp_path / "whole").journal()
    assert journal["finished"] == whole.id == journal["ended second"]["id"] != journal["ended control"]["id"]
    for number, name in enumerate(("first", "second", "control"), start=1):
        assert (tmp_path / "whole" / "stages" / f"{number:02d}-{name}" / "report.html").exists()
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "control of second" in page
    assert "against first" in page
    assert "against control" in page
    assert "<script" not in page

    out = tmp_path / "stopped"
    with pytest.raises(Interrupted) as caught:
        chain.train(registry, order(texts), out, Context(), Stopping("stage 2"))
    assert caught.value.do == f"sw2 train --resume --out {out}"
    assert current_run(out) == out / "stages" / "01-first"
    with pytest.raises(Interrupted):  # learned and saved, not yet judged
        chain.resume(registry, out, Context(), Stopping("judging on held-out"))
    assert chain.resume(registry, out, Context()).id == whole.id
    assert chain.resume(registry, out, Context()).id == whole.id  # finished already
    with pytest.raises(RunError, match="already holds a run"):
        chain.train(registry, order(texts), out, Context())
    assert sw2.load(out).id == whole.id


def test_minutes_are_shared_out_of_what_is_left(registry: Catalog, texts: Path, tmp_path: Path) -> None:
    asked = order(texts, budget=Budget(minutes=8))
    divided = chain.stages_of(registry, asked)
    assert chain.minutes_of(asked, divided) == {"first": 2, "second": 4, "control": 2}
    run = Run.create(tmp_path / "run", {"chain": {"name": "two-lessons"}})
    assert chain._budget(asked, divided, 0, run).minutes == 2
    run.decide({"ended first": {"id": "", "minutes": 5.0}})
    assert chain._budget(asked, divided, 1, run).minutes == 2  # (8 - 5) · 2 / 3
    run.decide({"ended second": {"id": "", "minutes": 30.0}})
    assert chain._budget(asked, divided, 2, run).minutes == 2  # a control has what the stage beside it had
    run.close()
    late = Run.create(tmp_path / "late", {"chain": {"name": "two-lessons"}})
    assert chain._budget(asked, divided, 0, late).minutes == 2
    late.decide({"ended first": {"id": "", "minutes": 30.0}})
    assert chain._budget(asked, divided, 1, late).minutes == 1  # a quarter of its share, whatever the others took
    late.close()


def test_settings_name_their_stage(registry: Catalog, texts: Path) -> None:
    divided = chain.stages_of(registry, order(texts, "second.model.context=32"))
    assert divided[1].settings == ("learn.gradient.optim.learning_rate=1e-3", "model.context=32")
    assert divided[2].settings == ()
    with pytest.raises(UnknownName, match="no stage of two-lessons called 'secnd'") as caught:
        chain.stages_of(registry, order(texts, "secnd.model.context=32"))
    assert "second" in str(caught.value)
    with pytest.raises(UsageError, match="a chain of several trainings"):
        chain.stages_of(registry, order(texts, budget=Budget(epochs=2)))


def test_a_program_in_a_role_that_nothing_has(texts: Path, tmp_path: Path) -> None:
    sw2.train("text-generation", texts, preset="tiny", steps=1, out=tmp_path / "one")
    with pytest.raises(UsageError, match="uses no such program") as caught:
        sw2.train("text-generation", texts, preset="tiny", steps=1, uses={"judge": tmp_path / "one"})
    assert "no --with for text-generation" in str(caught.value)


def ended(title: str, value: float, cases: Sequence[float] | None = None, better: str = "higher") -> Ended:
    details = {} if cases is None else {"cases": list(cases)}
    score = Score(name="passed", value=value, better=better, examples=200, details=details)
    return Ended(title=title, task="chat", scores=[score])


def test_a_gain_is_told_apart_from_chance() -> None:
    weak, strong = [0.0] * 100 + [1.0] * 100, [0.0] * 60 + [1.0] * 140
    found = change(ended("sft", 0.5, weak), ended("grpo", 0.7, strong))
    assert found is not None
    assert (found.verdict, round(found.gain, 6)) == ("gained", 0.2)
    assert found.interval is not None
    assert found.interval.low > 0.1
    back = change(ended("grpo", 0.7, strong), ended("sft", 0.5, weak))
    assert back is not None
    assert back.verdict == "lost"
    swapped = [1.0, *weak[1:-1], 0.0]
    even = change(ended("sft", 0.5, weak), ended("other", 0.5, swapped))
    assert even is not None
    assert even.verdict == "no clear gain"
    once, again = ended("sft", 0.5, weak[90:110]), ended("other", 0.6, [0.0] * 8 + [1.0] * 12)
    repeated = [
        ended(each.title, each.scores[0].value, [*each.scores[0].details["cases"]] * 9) for each in (once, again)
    ]
    for each in repeated:
        each.scores[0].details["repeats"] = list(range(20)) * 9  # type: ignore[index]
    single, several = change(once, again), change(*repeated)
    assert single is not None
    assert several is not None
    assert several.interval == single.interval, "an example that is judged nine times is one example"
    alone = change(ended("a", 1.2, better="lower"), ended("b", 1.1, better="lower"))
    assert alone is not None
    assert (alone.verdict, alone.interval) == ("gained", None)
    other = Ended(title="lm", task="text-generation", scores=[
        Score(name="bits per byte", value=1.0, better="lower", examples=200)
    ])  # fmt: skip
    assert change(other, ended("sft", 0.5)) is None


def test_damaged_settings_of_a_chain(registry: Catalog, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"chain": {"name": "two-lessons"}})
    run.close()
    with pytest.raises(RunError, match="cannot be read"):
        chain.resume(registry, tmp_path / "run", Context())
    assert json.loads((tmp_path / "run" / "journal.jsonl").read_text().splitlines()[0])


def test_the_share_of_right_answers_decides_and_the_loss_stands_beside_it() -> None:
    def score(name: str, value: float, better: str, of: str = "program", **details: object) -> Score:
        return Score(name=name, value=value, better=better, examples=4, of=of, details=details)

    both = Ended(title="sft", task="chat", scores=[
        score("loss per token", 0.5, "lower"),
        score("passed", 0.75, "higher", cases=[1.0, 1.0, 1.0, 0.0]),
        score("loss per token", 1.5, "lower", of="5-gram"),
        score("loss per token", 8.0, "lower", of="chance"),
        score("passed", 0.25, "higher", of="the start", cases=[1.0, 0.0, 0.0, 0.0]),
    ])  # fmt: skip
    assert both.lead is not None
    assert both.lead.name == "passed"
    assert [(each.of, each.value) for each in yardsticks(both)] == [
        ("the start", 0.25),
        ("program", 0.5),
        ("5-gram", 1.5),
        ("chance", 8.0),
    ]
    assert [each.value for each in yardsticks(ended("a", 0.5))] == []


def test_a_stage_of_other_data_is_judged_on_the_chains_own(registry: Catalog, texts: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number in range(12):
        (more / f"{number}.txt").write_text(f"another text {number} " * 30)

    def elsewhere(request: ChainRequest) -> Sequence[Stage]:
        first, second, _ = stages(request)
        return [first, replace(second, data=str(more), settings=("data.test_share=0",))]

    registry.stages = lambda name: elsewhere  # type: ignore[method-assign,assignment]
    program = chain.train(registry, order(texts), tmp_path / "out", Context())
    found = chain.stages_ended(registry, tmp_path / "out")
    assert [each.title for each in found] == ["first", "second"]
    assert found[0].lead is not None
    assert found[1].lead is not None
    assert found[1].lead.examples == found[0].lead.examples
    assert program.card.scores[0]["value"] == found[1].lead.value  # the card of the whole tells it
    assert len(changes(found, found[1])) == 1
    assert chain.resume(registry, tmp_path / "out", Context()).id == program.id


def test_a_stage_of_another_kind_is_held_against_its_best_baseline() -> None:
    """A reward model below a bag of words is called so, however its chain goes on."""

    def judge(value: float, low: float, high: float) -> Ended:
        scores = [
            Score(name="pair accuracy", value=value, better="higher", examples=200, interval=(low, high)),
            Score(name="pair accuracy", value=0.5, better="higher", examples=200, of="chance"),
            Score(name="pair accuracy", value=0.6, better="higher", examples=200, of="bag of words"),
        ]
        stage = Stage(name="reward", task="reward-modeling", data="pairs", share=1, why="Judges.", start="sft")
        return Ended(title="reward", task="reward-modeling", scores=scores, stage=stage)

    for value, low, high, verdict in (
        (0.45, 0.4, 0.5, "lost"),
        (0.62, 0.55, 0.7, "no clear gain"),
        (0.9, 0.8, 1, "gained"),
    ):
        each = judge(value, low, high)
        (found,) = changes([ended("sft", 0.5), each], each)
        assert (found.against, found.verdict) == ("bag of words", verdict)
