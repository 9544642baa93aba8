"""Inflected forms that were never seen: does the vector of their character n-grams lie near the word they come from?

    python benchmarks/word_forms.py [CORPUS] [--seeds 3] [--epochs 5] [--threads 2] [--rules 500] [--json FILE]

Pairs of a word and a form of it, both of which occur at least 5 times in the text:

    list     from the grammatical sections of the analogies (gram3 to gram9 without nationalities), irregular ones too:
             comparatives, superlatives, participles, past tenses, plurals, third persons
    rules    by the endings -s, -ed, -ing, -er, -est, -ly, -ness and -ful, from words of four letters and more; so many
             drawn, at most one for each word. Some of them are no forms ("corner"), which lowers the scores

All these forms are taken out of the text. fastText's model learns from what is left, and the form gets its vector from
n-grams alone. Beside that stand vectors that any form could get: zeros, and the mean of all words; the same model
before learning, whose n-grams have vectors of chance, so that words are near that are spelled alike: spelling alone;
and the same model learned from the whole text, where the form has been seen.

    same frequency    how often the form is nearer to its word than to another one, of the 100 words that are about as
                      frequent as its word; chance 0.5, equally near counts half
    same beginning    the same against words that begin with the same three letters, the 100 most alike in frequency,
                      where there are some
    rank              the place of the word among all words by their cosine to the form: the median, and the shares of
                      first places and of the first ten
    kin               how often the form is nearer to a relative of its word than to others that are about as frequent
                      as that one. Relatives are the ten words nearest to the word, without those of the same beginning,
                      by skip-gram without n-grams on the same text: they share meaning, and spelling only by chance

Spelling alone does well on all but the last: n-grams that two words share bring them near each other before anything
was learned. Only kin tells whether meaning came along.

Intervals are bootstraps (95 %) over pairs of the mean over seeds; beside them stands each seed's value.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from _word_learning import LEAST, learned, prepared

from sw2.catalog import catalog
from sw2.core.capabilities import Words
from sw2.core.task import Context
from sw2.domains.words.space import unit
from sw2.parts.metrics.intervals import bootstrap

__all__ = ["main"]

SECTIONS: Final = (
    "gram3-comparative",
    "gram4-superlative",
    "gram5-present-participle",
    "gram7-past-tense",
    "gram8-plural",
    "gram9-plural-verbs",
)
OTHERS: Final = 100
KIN: Final = 10
BEGINNING: Final = 3
COMPARED: Final = ("same frequency", "same beginning", "kin")


# ---------------------------------------------------------------------------------------------------------------- pairs


def listed() -> list[tuple[str, str]]:
    """Word and form of the analogies; a past tense stands beside a participle there, and gets that one's word."""
    judge = catalog().judge("questions-words")
    assert judge is not None
    rows = judge.read(judge.Options(), Context(confirm=lambda question: True)).split("test")
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for row in rows:
        if row["section"] in found:
            a, b, c, d = (word.lower() for word in row["words"])
            found[row["section"]] |= {b: a, d: c}
    participles = found["gram5-present-participle"]
    past = found["gram7-past-tense"]
    found["gram7-past-tense"] = {form: participles.get(word, word) for form, word in past.items()}
    return [(word, form) for forms in found.values() for form, word in forms.items()]


def forms_of(word: str) -> list[str]:
    """What rules make of a word."""
    stem, last = word[:-1], word[-1]
    if last == "y" and word[-2] not in "aeiou":
        return [*(stem + ending for ending in ("ies", "ied", "ier", "iest", "ily", "iness")), f"{word}ing"]
    if last == "e":
        return [*(stem + ending for ending in ("ing", "ed", "er", "est")), *(word + e for e in ("s", "ly", "ness"))]
    plural = "es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s"
    endings = (plural, "ed", "ing", "er", "est", "ly", "ness", "ful")
    doubled = [word + last + ending for ending in ("ed", "ing", "er", "est")]
    return [*(word + ending for ending in endings), *doubled]


def ruled(words: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Pairs of the vocabulary by rules, `count` of them at random or all."""
    random, known = np.random.default_rng(0), set(words)
    found = []
    for word in words:
        if len(word) >= 4 and word.isalpha() and (forms := [form for form in forms_of(word) if form in known]):
            found.append((word, forms[int(random.integers(len(forms)))]))
    return [found[place] for place in random.permutation(len(found))[:count]]


def chosen(text: Path, rules: int) -> list[tuple[str, str, str]]:
    """The pairs, each with where it comes from; no form is the word of another pair, and none stands there twice."""
    with open(text, encoding="utf-8") as file:
        counts = Counter(word for line in file for word in line.split())
    words = [word for word, count in counts.most_common() if count >= LEAST]
    known, pairs = set(words), dict[str, tuple[str, str, str]]()
    for source, found in (("list", listed()), ("rules", ruled(words, rules))):
        for word, form in found:
            if word in known and form in known and word != form:
                pairs.setdefault(form, (word, form, source))
    return [pair for pair in pairs.values() if pair[0] not in pairs]


# -------------------------------------------------------------------------------------------------------------- judging


def relatives(finder: Words, pairs: Sequence[tuple[str, str, str]]) -> list[list[str]]:
    """For each pair the words nearest to its word, without those of the same beginning."""
    words, matrix, _ = finder.table()
    units, place = unit(matrix), {word: number for number, word in enumerate(words)}
    found = []
    for word, _, _ in pairs:
        nearest = np.argsort(-(units @ units[place[word]]), kind="stable")
        strange = (words[number] for number in nearest if words[number][:BEGINNING] != word[:BEGINNING])
        found.append(list(itertools.islice(strange, KIN)))
    return found


def asked(
    finder: Words, pairs: Sequence[tuple[str, str, str]], kin: Sequence[Sequence[str]], forms: np.ndarray
) -> dict[str, np.ndarray]:
    """What each pair scores, [N] each; nan where there is nothing to compare with.

    Args:
        finder: the vectors of words.
        pairs: N of them.
        kin: the relatives of each pair's word.
        forms: the vectors of their forms, [N, D].
    """
    words, matrix, _ = finder.table()
    held = {form for _, form, _ in pairs}
    place = {word: number for number, word in enumerate(words)}
    beginnings: dict[str, list[int]] = {}
    usable = np.array([word not in held for word in words])
    for word, number in place.items():
        if usable[number]:
            beginnings.setdefault(word[:BEGINNING], []).append(number)
    units = unit(matrix)
    scores: dict[str, list[float]] = {name: [] for name in (*COMPARED, "rank")}
    for (word, form, _), related, vector in zip(pairs, kin, unit(forms), strict=True):
        cosines, own = units @ vector, place[word]
        others = usable.copy()
        others[[own, *([place[form]] if form in place else [])]] = False
        all_others = np.flatnonzero(others)
        alike = np.array([number for number in beginnings[word[:BEGINNING]] if number != own], int)
        scores["same frequency"].append(_nearer(cosines, own, all_others))
        scores["same beginning"].append(_nearer(cosines, own, alike))
        scores["kin"].append(np.mean([_nearer(cosines, place[each], all_others) for each in related]))
        # Those that are equally near stand half before it, half behind.
        rest = cosines[others]
        scores["rank"].append(1 + float((rest > cosines[own]).sum()) + float((rest == cosines[own]).sum()) / 2)
    return {name: np.array(each) for name, each in scores.items()}


def _nearer(cosines: np.ndarray, own: int, others: np.ndarray) -> float:
    """How often `own` is nearer than those of the others that are about as frequent; numbers go by frequency."""
    at = int(np.searchsorted(others, own))
    against = others[max(0, at - OTHERS // 2) : at + OTHERS // 2]
    against = against[against != own]
    return float((np.sign(cosines[own] - cosines[against]) + 1).mean() / 2) if len(against) else float("nan")


def told(runs: Sequence[Mapping[str, np.ndarray]], which: np.ndarray) -> dict[str, Any]:
    """What several seeds scored on some of the pairs: the mean, its interval, and each seed's value."""
    found: dict[str, Any] = {"pairs": int(which.sum())}
    measures = {
        **{name: [run[name][which] for run in runs] for name in COMPARED},
        "first": [(run["rank"][which] <= 1).astype(float) for run in runs],
        "first ten": [(run["rank"][which] <= 10).astype(float) for run in runs],
    }
    for name, rows in measures.items():
        means = np.mean(rows, axis=0)
        means = means[~np.isnan(means)]
        if len(means):
            span = bootstrap(means, seed=0)
            seeds = [float(np.nanmean(row)) for row in rows]
            found[name] = {"value": span.value, "interval": (span.low, span.high), "seeds": seeds, "of": len(means)}
    found["median rank"] = [float(np.median(run["rank"][which])) for run in runs]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="python-docstrings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rules", type=int, default=500)
    parser.add_argument("--buckets", type=int, default=2_000_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, np.ndarray]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        whole, rest = Path(folder) / "whole.txt", Path(folder) / "rest.txt"
        words = prepared(arguments.corpus, whole)
        pairs = chosen(whole, arguments.rules)
        left = prepared(arguments.corpus, rest, without={form for _, form, _ in pairs})
        print(
            f"{words:,} words, {words - left:,} of which are the forms of {len(pairs)} pairs; {arguments}", flush=True
        )
        program, _ = learned("skip-gram", rest, epochs=arguments.epochs, threads=arguments.threads, seed=0)
        kin = relatives(program.capability(Words), pairs)
        for seed in range(arguments.seeds):
            for name, text, epochs in (
                ("spelling alone", rest, 0),
                ("never seen", rest, arguments.epochs),
                ("seen", whole, arguments.epochs),
            ):
                how = {"threads": arguments.threads, "buckets": arguments.buckets}
                program, _ = learned("fasttext", text, epochs=epochs, seed=seed, **how)
                finder = program.capability(Words)
                table, matrix, _ = finder.table()
                if name == "never seen":
                    assert not {form for _, form, _ in pairs} & set(table)
                    mean = np.tile(matrix.mean(0), (len(pairs), 1))
                    runs.setdefault("zeros", []).append(asked(finder, pairs, kin, np.zeros_like(mean)))
                    runs.setdefault("mean of all words", []).append(asked(finder, pairs, kin, mean))
                vectors = finder.vectors([form for _, form, _ in pairs])
                runs.setdefault(name, []).append(asked(finder, pairs, kin, vectors))
    results = {
        source: {
            name: told(each, np.array([source in ("all", pair[2]) for pair in pairs])) for name, each in runs.items()
        }
        for source in ("all", *dict.fromkeys(source for _, _, source in pairs))
    }
    for source, sides in results.items():
        for name, found in sides.items():
            parts = [
                f"{measure} {each['value']:.3f} ({each['interval'][0]:.3f} to {each['interval'][1]:.3f}; seeds "
                f"{', '.join(f'{value:.3f}' for value in each['seeds'])}; {each['of']} pairs)"
                for measure, each in found.items()
                if isinstance(each, dict)
            ]
            ranks = ", ".join(f"{rank:.0f}" for rank in found["median rank"])
            print(f"{source:6} {name:18} {'; '.join(parts)}; median rank {ranks}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
