"""Rows from a mixture: the same tokens on any number of processes, shares by count, and nothing but text learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sw2.base.errors import DataError
from sw2.core.gradient import GradientConfig, Lesson
from sw2.core.objective import Job
from sw2.domains.language.corpus import CorpusOptions
from sw2.domains.language.corpus.reading import read
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.objective import LearnConfig, learn
from sw2.domains.language.prep import PrepConfig, TextPrep
from sw2.domains.language.task import TextGeneration

CONTEXT = 16


@pytest.fixture
def mixture(tmp_path: Path) -> str:
    """Two sources: one counts in letters, the other in digits."""
    for number in range(40):
        for name, alphabet in (("letters", "abcdefghij"), ("digits", "0123456789")):
            (tmp_path / name).mkdir(exist_ok=True)
            text = " ".join(alphabet[(number * 7 + i * i) % 10] * (1 + i % 3) for i in range(20 + number))
            (tmp_path / name / f"{number}.txt").write_text(text)
    path = tmp_path / "mix.toml"
    path.write_text("[sources.letters]\npath='letters'\nshare=0.8\n[sources.digits]\npath='digits'\nshare=0.2\n")
    return str(path)


def _lesson(source: str, packing: str = "concatenate", context: int = CONTEXT) -> tuple[Lesson, TextPrep]:
    task = TextGeneration()
    data = read(source, CorpusOptions(contamination="off"))
    prep = task.prepare(data.split("train"), PrepConfig(vocab_size=270))
    job = Job(
        task=task,
        data=data,
        prep=prep,
        model_name="decoder",
        model_class=Decoder,
        model_config=Decoder.Config(
            vocab_size=0, context=context, width=16, depth=1, heads=1, kv_heads=1, hidden=24, recall=1
        ),
        seed=5,
        device=torch.device("cpu"),
    )
    config = LearnConfig(gradient=GradientConfig(batch_size=8), packing=packing)  # type: ignore[arg-type]
    return learn(config, {}).teach(job), prep


@pytest.mark.parametrize("packing", ["concatenate", "best-fit"])
def test_the_tokens_are_the_same_on_another_number_of_processes_and_after_a_resume(mixture: str, packing: str) -> None:
    calm, _ = _lesson(mixture, packing)
    whole = [calm.source.batch({}, step, 0, 1) for step in range(12)]
    for began, size in ((0, 2), (6, 4), (9, 1)):  # another process, begun in the middle, on another number of ranks
        fresh, _ = _lesson(mixture, packing)
        for step in range(began, 12):
            for rank in range(size):
                part = fresh.source.batch({}, step, rank, size)
                assert set(part) == {"tokens", "targets", "documents"}
                assert all(torch.equal(part[name], whole[step][name][rank::size]) for name in part)


@pytest.mark.parametrize("packing", ["concatenate", "best-fit"])
def test_sources_come_in_their_shares(mixture: str, packing: str) -> None:
    lesson, prep = _lesson(mixture, packing, context=64)
    digits = 0
    for step in range(50):
        for tokens in lesson.source.batch({}, step, 0, 1)["tokens"].tolist():
            text = prep.tokenizer.decode(tokens)
            assert not (set(text) & set("0123456789") and set(text) & set("abcdefghij")), "a row is of one source"
            digits += bool(set(text) & set("0123456789"))
    assert digits == 80  # a fifth of 400
    facts = lesson.facts
    assert facts["share"] == {"letters": 0.8, "digits": 0.2}
    per_step = facts["epochs_per_step"]
    assert per_step["letters"] / per_step["digits"] == pytest.approx(4, rel=0.3)
    assert (facts["padding"] == 0) == (packing == "concatenate")
    assert (facts["tokens dropped in packing"] == 0) == (packing == "best-fit")
    assert (facts["short documents cut"] == 0) == (packing == "best-fit")


def test_the_loss_counts_targets_and_no_padding(mixture: str) -> None:
    lesson, _ = _lesson(mixture, "best-fit", context=50)
    batch = next(b for step in range(99) if (b := lesson.source.batch({}, step, 0, 1))["targets"].min() < 0)
    player = lesson.players[0]
    loss = player.loss(lesson.nets, batch)
    assert loss.count == int((batch["targets"] >= 0).sum()) < batch["targets"].numel()
    # What stands in the padding has no say, in the value and in the gradient.
    other = dict(batch, tokens=torch.where(batch["targets"] < 0, 7, batch["tokens"]))
    gradients = []
    for each in (batch, other):
        lesson.nets["decoder"].zero_grad()
        total = player.loss(lesson.nets, each).total
        total.backward()
        found = [p.grad.clone() for p in lesson.nets["decoder"].parameters() if p.grad is not None]
        gradients.append((total.detach(), found))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients[0][1], gradients[1][1], strict=True))
    assert np.isfinite(float(total.detach()))


def test_a_source_that_does_not_fill_a_row_is_named(mixture: str) -> None:
    with pytest.raises(DataError, match=r"sources\.letters"):
        _lesson(mixture, context=100_000)
