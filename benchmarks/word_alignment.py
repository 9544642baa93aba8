"""Words translated without a dictionary: from two piles of text that share nothing, judged by FreeDict.

Text: the descriptions of Debian's packages. A source package's descriptions go into one language only: three quarters
of those with an Italian or French translation into these languages, all others into English. So that no text is
parallel, English loses every paragraph that is the original of a translated one (descriptions of different packages
repeat each other), and it is checked, and printed, that English shares with the other languages no source package, no
description (Debian names a translation by the MD5 of its original) and no paragraph of an original. `--more-english
FILE…` adds text to English.

Vectors: `sw2 train word-vectors` on each pile, or any files by `--vectors en=FILE it=FILE fr=FILE`.

Then for each pair, with the same vectors:

    chance                    one word at random
    first dictionary          Procrustes of the pairs by profiles alone, before self-learning
    words written alike       Procrustes of those alone
    by shapes, by spelling    self-learning that begins with these two dictionaries, 5 seeds each
    adversary                 once, with its criterion: where it fails, that it said so
    Procrustes, taught        by the dictionary's words for learning: the ceiling, on the same vectors
    strangers                 self-learning with the target's vectors shuffled in each axis: has to be refused

P@1 and P@5 are those of `sw2 eval`, on the words for judging none of whose translations is written alike. The exit code
is 1 where a bar of the table at the end is missed.

    python benchmarks/word_alignment.py [--pairs it fr] [--minutes 5] [--seeds 5] [--keep DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import sw2
from sw2.base.errors import LearningError
from sw2.core.task import Context, Score
from sw2.domains.words.alignment.dictionaries import freedict, is_for_judging
from sw2.domains.words.alignment.geometry import densities, nearest, procrustes
from sw2.domains.words.alignment.induction import Pairs, by_profiles, identical
from sw2.domains.words.alignment.task import AlignmentPrep, PrepConfig, WordAlignment, known
from sw2.parts.formats.vectors import VectorTable, read, write

__all__ = ["main"]

DICTIONARIES: Final = {"it": "freedict-eng-ita", "fr": "freedict-eng-fra"}
TRANSLATED: Final = 0.75
WAYS: Final = {"by shapes": {}, "by spelling": {"learn.identical": True}}


# ----------------------------------------------------------------------------------------------------------------- text


def fetch_lists(folder: Path, languages: Sequence[str]) -> None:
    """Debian's lists with descriptions in these languages, by apt, into a folder of ours."""
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    options = {"Dir::State::Lists": folder, "Acquire::Languages": ",".join(["en", *languages])}
    command = ["apt-get", "update", "--quiet"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Debian's lists could not be fetched: {done.stderr}")


def stanzas(folder: Path, ending: str) -> Iterator[dict[str, str]]:
    """The entries of all lists whose names end so, as fields; a field of several lines is joined by newlines."""
    for path in sorted(folder.glob(f"*{ending}*")):
        text = subprocess.run(
            ["/usr/lib/apt/apt-helper", "cat-file", str(path)], capture_output=True, check=True
        ).stdout.decode()
        for block in text.split("\n\n"):
            fields: dict[str, str] = {}
            name = ""
            for line in block.split("\n"):
                if line[:1] in (" ", "\t"):
                    fields[name] += "\n" + line.strip()
                elif ":" in line:
                    name, _, value = line.partition(":")
                    fields[name] = value.strip()
            if "Package" in fields:
                yield fields


def paragraphs(description: str) -> list[str]:
    """The title, and the paragraphs, which a lone full stop divides, each on one line."""
    title, *lines = description.split("\n")
    found, current = [title], list[str]()
    for line in [*lines, "."]:
        if line == ".":
            found.append(" ".join(current))
            current = []
        else:
            current.append(line)
    return [each for each in found if each]


def piles(lists: Path, languages: Sequence[str], more: Sequence[Path]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The lines of each language, each once, and what was checked."""
    source_of = {
        fields["Package"]: fields.get("Source", fields["Package"]).split(" ")[0]
        for fields in stanzas(lists, "binary-amd64_Packages")
    }
    english: dict[str, tuple[str, str]] = {}  # by MD5: source package, description
    for fields in stanzas(lists, "i18n_Translation-en"):
        english[fields["Description-md5"]] = (source_of.get(fields["Package"], ""), fields["Description-en"])
    translated = {
        language: {
            fields["Description-md5"]: (source_of.get(fields["Package"], ""), fields[f"Description-{language}"])
            for fields in stanzas(lists, f"i18n_Translation-{language}")
        }
        for language in languages
    }
    sources = {source for texts in translated.values() for source, _ in texts.values()}
    abroad = {each for each in sources if _draw(each) < TRANSLATED} | {""}
    lines: dict[str, dict[str, None]] = {"en": {}, **{language: {} for language in languages}}
    originals: set[str] = set()
    taken: dict[str, set[str]] = {language: set() for language in languages}
    for language, texts in translated.items():
        for md5, (source, text) in texts.items():
            if source in abroad and source and md5 in english:
                taken[language].add(md5)
                lines[language].update(dict.fromkeys(paragraphs(text)))
                originals.update(_plain(each) for each in paragraphs(english[md5][1]))
    kept, lost, sources_at_home = set(), 0, set()
    every = set().union(*taken.values())
    for md5, (source, text) in english.items():
        if source in abroad or md5 in every:
            continue
        for each in paragraphs(text):
            if _plain(each) in originals:
                lost += 1
            else:
                lines["en"][each] = None
                kept.add(md5)
                sources_at_home.add(source)
    for path in more:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and _plain(line) not in originals:
                lines["en"][line.strip()] = None
    checked = {
        "source packages in both": len(sources_at_home & abroad),
        "descriptions in both": len(kept & every),
        "paragraphs in both": sum(_plain(each) in originals for each in lines["en"]),
        "English paragraphs left out": lost,
    }
    assert not any(checked[name] for name in checked if name.endswith("both")), checked
    return {language: list(each) for language, each in lines.items()}, checked


def _draw(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _plain(text: str) -> str:
    return " ".join("".join(letter.lower() if letter.isalnum() else " " for letter in text).split())


# -------------------------------------------------------------------------------------------------------------- vectors


def trained(
    language: str, lines: Sequence[str], folder: Path, model: str, minutes: float, settings: Mapping[str, Any]
) -> Path:
    """A file of vectors, of `sw2 train word-vectors`."""
    path = folder / f"{language}.vec"
    if not path.exists():
        text = folder / f"{language}.txt"
        text.write_text("\n".join(lines), encoding="utf-8")
        out = folder / f"words-{language}"
        given = None if model == "ppmi-svd" else minutes  # a closed form has no steps
        program = sw2.train("word-vectors", text, model=model, minutes=given, settings=settings, out=out)
        words, matrix, counts = program.runtime.table()  # type: ignore[attr-defined]
        write(VectorTable(list(words), np.ascontiguousarray(matrix, np.float32), counts), path, "word2vec-binary")
    return path


def strangers(path: Path, folder: Path) -> Path:
    """The vectors of a file, each axis in an order of its own: as spread as before, and without any structure."""
    table, random = read(path), np.random.default_rng(0)
    matrix = np.stack([random.permutation(column) for column in table.matrix.T], axis=1)
    write(VectorTable(table.words, np.ascontiguousarray(matrix)), folder / "strangers.vec", "word2vec-binary")
    return folder / "strangers.vec"


# -------------------------------------------------------------------------------------------------------------- measure


def row(scores: Sequence[Score], of: str) -> dict[str, float]:
    return {score.name: score.value for score in scores if score.of == of}


def of_pairs(prep: AlignmentPrep, pairs: Pairs, dictionary: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """P@1 of the map that fits some pairs, on what `sw2 eval` asks."""
    mapped = prep.source_ND @ procrustes(prep.source_ND[pairs.source], prep.target_MD[pairs.target])
    fair = {
        word: each
        for word, each in dictionary.items()
        if is_for_judging(word, 0.5) and word.lower() not in {one.lower() for one in each}
    }
    asked = known(prep, fair)
    crowded = densities(prep.target_MD, mapped, 10)
    found = nearest(mapped[asked.rows], prep.target_MD, 5, torch.zeros(len(asked.rows)), crowded)[1].tolist()
    hits = [[place in right for place in places] for places, right in zip(found, asked.right, strict=True)]
    return {"P@1": float(np.mean([each[0] for each in hits])), "P@5": float(np.mean([any(each) for each in hits]))}


def measured(source: Path, target: Path, dictionary: str, chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every row of one pair of languages."""

    def learn(name: str, seed: int = 0, to: Path = target, **given: Any) -> sw2.Program | LearningError:
        settings = {"data.target": str(to), **given.pop("settings", {})}
        out = folder / f"{target.stem}-{name}-{seed}"
        try:
            return sw2.train(
                "word-alignment", source, minutes=chosen.minutes, settings=settings, out=out, seed=seed, **given
            )
        except LearningError as error:
            return error

    def judged(program: sw2.Program | LearningError) -> dict[str, Any]:
        if isinstance(program, LearningError):
            return {"refused": str(program.got)}
        scores = sw2.evaluate(program, dictionary, install=True)
        return {
            **row(scores, "program"),
            **{f"{name} by cosine": value for name, value in row(scores, "program, by cosine").items()},
            "examples": scores[0].examples,
            "csls": program.card.facts.get("validation csls"),
            "steps": program.card.facts["steps"],
        }

    entries = freedict(dictionary, lambda _: True).entries
    task = WordAlignment()
    languages = task.read(
        str(source), WordAlignment.Options(target=str(target)), Context()
    ).split("train")  # fmt: skip
    prep = task.prepare(languages, PrepConfig())
    rows: dict[str, Any] = {
        "first dictionary": of_pairs(prep, by_profiles(prep.source_ND, prep.target_MD, 4000, 10), entries),
        "words written alike": of_pairs(prep, identical(prep.source_words, prep.target_words), entries),
    }
    found: list[sw2.Program] = []
    for way, settings in WAYS.items():
        for seed in range(chosen.seeds):
            program = learn(way.replace(" ", "-"), seed, settings=settings)
            rows[f"{way}, seed {seed}"] = judged(program)
            found += [] if isinstance(program, LearningError) else [program]
    rows["adversary"] = judged(learn("adversary", objective="adversary"))
    rows["strangers"] = judged(learn("strangers", to=strangers(target, folder)))
    if found:
        scores = sw2.evaluate(found[0], dictionary, install=True)
        rows["chance"] = row(scores, "chance")
        taught = next(score.of for score in scores if score.of.startswith("Procrustes taught"))
        rows["Procrustes, taught"] = row(scores, taught)
    return rows


def show(pair: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\nen-{pair}: P@1 and P@5 by CSLS, P@1 and P@5 by cosine, words, mean CSLS of held-out words, steps")
    for name, values in rows.items():
        if "refused" in values:
            print(f"  {name:<26}refused: {values['refused']}")
            continue
        cells = [values.get(each) for each in ("P@1", "P@5", "P@1 by cosine", "P@5 by cosine")]
        shown = "".join(f"{'' if cell is None else f'{cell:.2%}':>9}" for cell in cells)
        rest = "".join(
            f"{values[each]:>9.4g}" for each in ("examples", "csls", "steps") if values.get(each) is not None
        )
        print(f"  {name:<26}{shown}{rest}", flush=True)


def bars(rows: Mapping[str, Mapping[str, Any]], seeds: int) -> list[tuple[str, bool]]:
    """What en-it has to show, and whether the better way to begin does."""
    learned = {way: [rows[f"{way}, seed {seed}"] for seed in range(seeds)] for way in WAYS}
    found = {way: [each for each in learned[way] if "P@1" in each] for way in WAYS}
    way = max(WAYS, key=lambda each: float(np.median([row["P@1"] for row in found[each]] or [0.0])))
    if not found[way]:
        return [("self-learning converges", False)]
    middle = float(np.median([each["P@1"] for each in found[way]]))
    ceiling = rows["Procrustes, taught"]["P@1"]
    by_cosine = float(np.median([each["P@1 by cosine"] for each in found[way]]))
    first = rows["first dictionary" if way == "by shapes" else "words written alike"]["P@1"]
    converged = sum(each["P@1"] >= 0.5 * middle for each in found[way])
    asked = found[way][0]["examples"]
    return [
        (f"({way}) at least 300 words are judged: {asked}", asked >= 300),
        (f"P@1 at least 14 % (goal 20): {middle:.2%}", middle >= 0.14),
        (f"P@1 at least 0.9 of taught Procrustes, {ceiling:.2%}: {middle / ceiling:.2f}", middle >= 0.9 * ceiling),
        (f"CSLS above the nearest neighbour, {by_cosine:.2%}", middle > by_cosine),
        (f"refinement above what it began with, {first:.2%}", middle > first),
        (f"all seeds converge: {converged} of {seeds}", converged == seeds),
        ("strangers are refused", "refused" in rows["strangers"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", nargs="+", default=["it", "fr"], choices=list(DICTIONARIES))
    parser.add_argument("--minutes", type=float, default=5.0, help="of each alignment, at most")
    parser.add_argument("--word-model", default="skip-gram", help="of word-vectors; ppmi-svd for small piles of text")
    parser.add_argument("--word-minutes", type=float, default=5.0, help="of the vectors of each language")
    parser.add_argument("--word-set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of word-vectors")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--vectors", nargs="*", default=[], metavar="LANGUAGE=FILE")
    parser.add_argument("--more-english", nargs="*", default=[], type=Path)
    parser.add_argument("--keep", type=Path, help="where lists, text and vectors stay")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        runs = Path(temporary) / "runs"
        runs.mkdir()
        files = {language: Path(file) for language, file in (each.split("=", 1) for each in chosen.vectors)}
        wanted = ["en", *chosen.pairs]
        if missing := [language for language in wanted if language not in files]:
            lists = folder / "lists"
            if not list(lists.glob("*Packages*")):
                fetch_lists(lists, chosen.pairs)
            text, checked = piles(lists, chosen.pairs, chosen.more_english)
            words = {language: sum(len(line.split()) for line in lines) for language, lines in text.items()}
            print("words:", ", ".join(f"{language} {count:,}" for language, count in words.items()))
            print("checked:", ", ".join(f"{name} {count:,}" for name, count in checked.items()), flush=True)
            settings = dict(each.split("=", 1) for each in chosen.word_set)
            for language in missing:
                files[language] = trained(
                    language, text[language], folder, chosen.word_model, chosen.word_minutes, settings
                )
        found = {}
        for pair in chosen.pairs:
            found[pair] = measured(files["en"], files[pair], DICTIONARIES[pair], chosen, runs)
            show(pair, found[pair])
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2))
    missed = 0
    for line, met in bars(found["it"], chosen.seeds) if "it" in found else ():
        print(f"{'met   ' if met else 'MISSED'} {line}")
        missed += not met
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
