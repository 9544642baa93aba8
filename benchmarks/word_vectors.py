"""Word vectors beside gensim and fastText: words a second, and sets that people judged; in turns on one machine.

    pip install gensim fasttext                            here, or elsewhere and --peer-python PATH
    python benchmarks/word_vectors.py [CORPUS] [--rounds 3] [--epochs 5] [--threads 2] [--sides …] [--fasttext BINARY]
    python benchmarks/word_vectors.py [CORPUS] --sizes 1 4 16       peak memory with so many copies of the corpus

The corpus is any text that `sw2 train word-vectors` takes (the named `python-docstrings` when none is given). It is cut
into words once, and every side reads the same file: words between spaces, lines as they are. All have 100 dimensions,
window 5, 5 words drawn, words from 5 occurrences on, subsampling 1e-3; skip-gram learns from 0.025 on, CBOW and
subwords from 0.05 (gensim's CBOW too), subwords of 3 to 6 characters in two million buckets.

Each timing is a process of its own, sides take turns, and a round is a seed. Words are those of the file times epochs.

    learning    without reading, counting and encoding. gensim holds the corpus as lists in memory, its fastest way; of
                fastText a run of no epochs is taken off
    all         from the file to vectors

WordSim-353, SimLex-999 (Spearman) and analogies (share) are taken by sw2's judges, over the same vocabulary.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS, WINDOW, NEGATIVES, LEAST, SUBSAMPLE, BUCKETS = 100, 5, 5, 5, 1e-3, 2_000_000
RATES: Mapping[str, float] = {"skip-gram": 0.025, "cbow": 0.05, "subwords": 0.05}
SIDES = tuple(
    f"{who} {way}" for way in RATES for who in ("sw2", "gensim", "fasttext") if (who, way) != ("gensim", "subwords")
)


# ----------------------------------------------------------------------------------------------------------- each side


def sw2(way: str, text: Path, out: Path, epochs: int, threads: int, seed: int) -> dict[str, float]:
    """Learn as `sw2 train` does, without the driver around it."""
    import torch

    from sw2.base.config import replace
    from sw2.catalog import catalog
    from sw2.core.capabilities import Words
    from sw2.core.domain import Request
    from sw2.core.objective import Clock, Job
    from sw2.core.task import Context
    from sw2.domains.words.corpus import CorpusOptions
    from sw2.domains.words.objective import LearnConfig, NegativeSampling
    from sw2.domains.words.vocabulary import PrepConfig

    model = "fasttext" if way == "subwords" else way
    found = catalog()
    task, derived = found.task("word-vectors"), found.recipe("word-vectors")
    began = time.perf_counter()
    data = task.read(str(text), CorpusOptions(rule="spaces", case="kept", test_share=0), Context())
    recipe = derived(Request(data=data, preset="small", model=model))
    sized: Any = {"buckets": BUCKETS} if way == "subwords" else {}
    config = LearnConfig(
        window=WINDOW, negatives=NEGATIVES, learning_rate=RATES[way], subsample=SUBSAMPLE, threads=threads
    )
    objective = NegativeSampling(config, {})
    job = Job(
        task=task,
        data=data,
        prep=task.prepare(data.split("train"), PrepConfig(min_count=LEAST)),
        model_name=model,
        model_class=found.model_class(model),
        model_config=replace(recipe.model_config, dimensions=DIMENSIONS, **sized),
        seed=seed,
        device=torch.device("cpu"),
    )
    job = replace(job, choices=objective.choose(job).values)
    state = objective.start(job)
    steps = max(1, round(epochs * objective.steps_per_epoch(state)))
    learning = time.perf_counter()
    for step in range(steps):
        objective.step(state, Clock(step, steps))
    ended = time.perf_counter()
    words, matrix, _ = objective.finish(state).capability(Words).table()
    _write(out, list(words), matrix)
    return {"learning": ended - learning, "all": ended - began}


def gensim(way: str, text: Path, out: Path, epochs: int, threads: int, seed: int) -> dict[str, float]:
    """Word2Vec of gensim."""
    from gensim.models import Word2Vec

    began = time.perf_counter()
    sentences = [line.split() for line in text.read_text(encoding="utf-8").splitlines()]
    model = Word2Vec(
        vector_size=DIMENSIONS,
        window=WINDOW,
        negative=NEGATIVES,
        min_count=LEAST,
        sample=SUBSAMPLE,
        sg=int(way == "skip-gram"),
        alpha=RATES[way],
        workers=threads,
        seed=seed + 1,
    )
    model.build_vocab(sentences)
    learning = time.perf_counter()
    model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
    ended = time.perf_counter()
    _write(out, model.wv.index_to_key, model.wv.vectors)
    return {"learning": ended - learning, "all": ended - began}


def fasttext(way: str, text: Path, out: Path, epochs: int, threads: int, seed: int, binary: str) -> dict[str, float]:
    """fastText: the binary where one is named, else its Python package; a run of no epochs is what reading takes."""
    settings = {
        "dim": DIMENSIONS,
        "ws": WINDOW,
        "neg": NEGATIVES,
        "minCount": LEAST,
        "t": SUBSAMPLE,
        "lr": RATES[way],
        "thread": threads,
        "bucket": BUCKETS,
        "maxn": 6 if way == "subwords" else 0,
        "minn": 3 if way == "subwords" else 0,
        "verbose": 0,
    }
    name = "cbow" if way == "cbow" else "skipgram"
    seconds = []
    for times in (0, epochs):
        began = time.perf_counter()
        if binary:
            given = [f"-{key}={value}".split("=") for key, value in {**settings, "epoch": times, "seed": seed}.items()]
            command = [
                binary,
                name,
                "-input",
                str(text),
                "-output",
                str(out),
                *(each for pair in given for each in pair),
            ]
            subprocess.run(command, check=True, capture_output=True)
        else:
            import fasttext as package

            model = package.train_unsupervised(str(text), model=name, epoch=times, **settings)
        seconds.append(time.perf_counter() - began)
    if binary:
        rows = [line.rstrip().split(" ") for line in Path(f"{out}.vec").read_text(encoding="utf-8").splitlines()[1:]]
        words, matrix = [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)
    else:
        words = model.get_words()
        matrix = np.stack([model.get_word_vector(word) for word in words])
    kept = [number for number, word in enumerate(words) if word != "</s>"]
    _write(out, [words[number] for number in kept], matrix[kept])
    return {"learning": max(seconds[1] - seconds[0], 1e-9), "all": seconds[1]}


def _write(out: Path, words: list[str], matrix: Any) -> None:
    np.savez(out, words=np.array(words, dtype=object).astype(str), matrix=np.asarray(matrix, np.float32))


# ------------------------------------------------------------------------------------------------------------- judging


def judged(path: Path) -> dict[str, float]:
    """The three sets, asked of vectors in a file."""
    import torch

    from sw2.catalog import catalog
    from sw2.core.program import Net, Program
    from sw2.core.task import Context
    from sw2.domains.words.models import WordVectors
    from sw2.domains.words.task import WordFinder
    from sw2.domains.words.vocabulary import WordPrep

    stored = np.load(path)
    words, matrix = stored["words"].tolist(), stored["matrix"]
    model = WordVectors(WordVectors.Config(dimensions=matrix.shape[1], words=len(words)))
    model.weight.data = torch.from_numpy(matrix)
    prep = WordPrep(words, np.arange(len(words), 0, -1), "spaces", "lower")
    task = catalog().task("word-vectors")
    nets = {"vectors": Net("skip-gram", model)}
    program = Program.assemble(task=task, runtime=WordFinder, nets=nets, prep=prep, provider={})
    found = {}
    for name in ("wordsim353", "simlex999", "questions-words"):
        judge = catalog().judge(name)
        assert judge is not None
        context = Context(confirm=lambda question: True)
        scores = judge.judge(program, judge.read(judge.Options(), context).split("test"), context)
        found[name] = scores[0].value
        found[f"{name} coverage"] = scores[1].value
    return found


def prepared(corpus: str, text: Path, copies: int = 1) -> int:
    """Write the corpus as words between spaces; how many words there are."""
    from sw2.domains.words.corpus import Corpus, CorpusOptions, read_corpus

    found = read_corpus(corpus, CorpusOptions(test_share=0), 0).split("train")
    assert isinstance(found, Corpus)
    with open(text, "w", encoding="utf-8") as file:
        for _ in range(copies):
            file.writelines(" ".join(words) + "\n" for words in found.words())
    return copies * found.counts.total()


def run(side: str, text: Path, out: Path, arguments: argparse.Namespace, seed: int, epochs: int) -> dict[str, float]:
    """One side in a process of its own: seconds and the peak of memory in bytes."""
    who = side.partition(" ")[0]
    python = sys.executable if who == "sw2" or not arguments.peer_python else arguments.peer_python
    given = ["--side", side, "--text", str(text), "--out", str(out), "--seed", str(seed), "--epochs", str(epochs)]
    more = ["--threads", str(arguments.threads), "--fasttext", arguments.fasttext]
    done = subprocess.run([python, __file__, *given, *more], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="python-docstrings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--fasttext", default="", help="the official binary")
    parser.add_argument("--sizes", nargs="+", type=int)
    for hidden in ("--side", "--text", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        who, _, way = arguments.side.partition(" ")
        more = {"binary": arguments.fasttext} if who == "fasttext" else {}
        where = (Path(arguments.text), Path(arguments.out))
        took = globals()[who](way, *where, arguments.epochs, arguments.threads, arguments.seed, **more)
        print(json.dumps({**took, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        text, out = Path(folder) / "text.txt", Path(folder) / "vectors.npz"
        if arguments.sizes:
            for copies in arguments.sizes:
                words = prepared(arguments.corpus, text, copies)
                found = run("sw2 skip-gram", text, out, arguments, 0, 1)
                print(f"{words:13,} words: peak memory {found['memory'] / 1e6:7.1f} MB")
            return
        words = prepared(arguments.corpus, text)
        print(f"{words:,} words, {arguments.epochs} epochs, {arguments.threads} threads, {arguments.rounds} rounds")
        rows: dict[str, list[dict[str, float]]] = {side: [] for side in arguments.sides}
        for seed in range(arguments.rounds):
            for side in arguments.sides:
                rows[side].append({**run(side, text, out, arguments, seed, arguments.epochs), **judged(out)})
        for side, found in rows.items():
            middle = {name: statistics.median(row[name] for row in found) for name in found[0]}
            speeds = [words * arguments.epochs / middle[name] / 1e3 for name in ("learning", "all")]
            sets = [
                f"{name} {middle[name]:.3f} ({min(row[name] for row in found):.3f} to "
                f"{max(row[name] for row in found):.3f}, coverage {middle[f'{name} coverage']:.2f})"
                for name in ("wordsim353", "simlex999", "questions-words")
            ]
            print(
                f"{side:18} {speeds[0]:7.0f} k words/s learning, {speeds[1]:7.0f} k in all, "
                f"{middle['memory'] / 1e6:6.0f} MB; {', '.join(sets)}"
            )


if __name__ == "__main__":
    main()
