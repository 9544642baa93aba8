"""Files of word vectors in the hands of those who made the formats: gensim and fastText's official program.

    python benchmarks/vector_files_parity.py --peer-python PATH               files, both ways
    python benchmarks/vector_files_parity.py --table FILE                     what fewer bytes lose, on real vectors
    python benchmarks/vector_files_parity.py --peer-python PATH --golden tests/golden

The first writes a table of 20,000 words in each format, has gensim load it, and compares every number; has gensim save
it and loads that; and has the official program answer with models that we wrote. All differences must be 0, and all
labels the same. The third makes the small files that the tests hold against. The peers run under an interpreter of
their own, which has gensim and fasttext (fasttext-wheel); it needs no sw2.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

TEXTS = [
    "sonne regen kälte",
    "käse 寿司 tee 🍎",
    "sieben acht fünfchen unbekannt",
    "ganz andere wörter",
    "",
    "eins\ttee  wind",
]
WORDS = ["sonne", "käse", "unbekannt", "寿司", "🍎", "ÿa", "</s>"]
STEMS = {
    "wetter": ["sonne", "regen", "wölke", "wind", "kälte", "hagel", "nebel", "schnee"],
    "essen": ["brot", "käse", "apfel", "寿司", "suppe", "nudel", "🍎", "tee"],
    "zahl": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht"],
}


# ----------------------------------------------------------------------------------------------------------- the peers


def peer_answers(model: Any) -> dict[str, Any]:
    """Rows and vectors of words, and labels of texts, by the official program."""
    told = {
        "vectors": {word: model.get_word_vector(word).tolist() for word in WORDS},
        "rows": {word: [int(row) for row in model.get_subwords(word)[1]] for word in WORDS},
    }
    if model.get_labels()[0].startswith("__label__"):
        # The wrapper's own predict needs numpy 1.
        told["predictions"] = [[text, model.f.predict(text + "\n", 3, 0.0, "strict")] for text in TEXTS]
    return told


def peer_golden(folder: Path) -> None:
    """Train the small models of the tests, on one thread, and keep what the official program answers."""
    import fasttext
    from gensim.models import KeyedVectors, Word2Vec

    draws = random.Random(1)
    lines = []
    for _ in range(300):
        label = draws.choice(list(STEMS))
        words = [draws.choice(STEMS[label]) + draws.choice(["", "e", "en", "chen"]) for _ in range(draws.randint(2, 7))]
        lines.append((label, words))
    with tempfile.TemporaryDirectory() as scratch:
        labelled, plain = Path(scratch, "labelled"), Path(scratch, "plain")
        labelled.write_text("".join(f"__label__{label} {' '.join(words)}\n" for label, words in lines))
        plain.write_text("".join(f"{' '.join(words)}\n" for _, words in lines))
        base = {"dim": 5, "epoch": 5, "lr": 0.5, "thread": 1, "verbose": 0, "minCount": 1}

        def supervised(**others: Any) -> Any:
            return fasttext.train_supervised(str(labelled), **base, **others)

        models = {
            "softmax.bin": supervised(loss="softmax", wordNgrams=2, minn=2, maxn=3, bucket=60),
            "hierarchical.bin": supervised(loss="hs", wordNgrams=3, minn=0, maxn=0, bucket=40),
            "one-for-each.bin": supervised(loss="ova", wordNgrams=1, minn=0, maxn=0, bucket=0),
            "skipgram.bin": fasttext.train_unsupervised(str(plain), "skipgram", minn=3, maxn=4, bucket=80, **base),
            "cbow.bin": fasttext.train_unsupervised(str(plain), "cbow", minn=0, maxn=0, bucket=0, **base),
            "pruned.ftz": supervised(loss="hs", wordNgrams=2, minn=2, maxn=3, bucket=700),
            "quantised.ftz": supervised(loss="softmax", wordNgrams=2, minn=0, maxn=0, bucket=300),
        }
        models["pruned.ftz"].quantize(str(labelled), qnorm=True, cutoff=300, dsub=2)
        models["quantised.ftz"].quantize(str(labelled), qnorm=False, dsub=2)
    told = {}
    (folder / "fasttext").mkdir(parents=True, exist_ok=True)
    (folder / "words").mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        model.save_model(str(folder / "fasttext" / name))
        told[name] = peer_answers(fasttext.load_model(str(folder / "fasttext" / name)))
    text = json.dumps(told, ensure_ascii=False, indent=1) + "\n"
    (folder / "fasttext" / "official.json").write_text(text, encoding="utf-8")
    vectors = KeyedVectors(3)
    vectors.add_vectors(["the", "käse", "寿司"], np.arange(9, dtype=np.float32).reshape(3, 3) / 7)
    for word, count in (("the", 11), ("käse", 7), ("寿司", 2)):
        vectors.set_vecattr(word, "count", count)
    vectors.save(str(folder / "words" / "small.kv"))
    vectors.save(str(folder / "words" / "apart.kv"), sep_limit=0)
    model = Word2Vec([words for _, words in lines], vector_size=4, min_count=1, epochs=1, workers=1, seed=1)
    model.wv.save(str(folder / "words" / "trained.kv"))
    model.save(str(folder / "words" / "whole.model"))


def peer_checks(folder: Path) -> None:
    """Load what lies in `folder`, and leave beside it what gensim and fastText find there."""
    import fasttext
    from gensim.models import KeyedVectors

    ways: dict[str, dict[str, Any]] = {
        "word2vec": {},
        "word2vec-binary": {"binary": True},
        "glove": {"no_header": True},
        "word2vec.gz": {},
    }
    words = {}
    for name, how in ways.items():
        loaded = KeyedVectors.load_word2vec_format(str(folder / name), **how)
        words[name] = loaded.index_to_key
        np.save(folder / f"{name}.npy", loaded.vectors)
        if name == "glove":
            loaded.save(str(folder / "gensim.kv"))
            loaded.save_word2vec_format(str(folder / "gensim.txt"))
            loaded.save_word2vec_format(str(folder / "gensim.bin"), binary=True)
    told = {path.name: peer_answers(fasttext.load_model(str(path))) for path in sorted((folder / "models").iterdir())}
    (folder / "peer.json").write_text(json.dumps({"words": words, "models": told}), encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------- our side


def files(peer: str) -> bool:
    """Our files read by the peers, and theirs by us; prints a line each."""
    from sw2.parts.formats import fasttext, vectors

    fine = True

    def row(name: str, largest: float, same: bool) -> None:
        nonlocal fine
        fine = fine and same
        print(f"{name:<44}{largest:>14.3g}   {'the same' if same else 'DIFFERS'}")

    print(f"{'file':<44}{'largest diff.':>14}   words, rows or labels")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draws = np.random.default_rng(7)
        names = [f"wört{each}" if each % 3 else f"寿{each}🍎" for each in range(20_000)]
        table = vectors.VectorTable(names, draws.normal(size=(20_000, 50)).astype(np.float32))
        for each in vectors.FORMATS:
            vectors.write(table, folder / each, each)
        vectors.write(table, folder / "word2vec.gz", "word2vec")
        golden = Path(__file__).parents[1] / "tests" / "golden" / "fasttext"
        models = {path.name: fasttext.read(path) for path in sorted(golden.glob("*.*")) if path.suffix != ".json"}
        (folder / "models").mkdir()
        for name, model in models.items():
            fasttext.write(model, folder / "models" / name)
        subprocess.run([peer, __file__, "--as-peer", str(folder)], check=True, stderr=subprocess.DEVNULL)
        told = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
        for name, words in told["words"].items():
            difference = float(np.abs(np.load(folder / f"{name}.npy") - table.matrix).max())
            row(f"ours, {name}, read by gensim", difference, words == names and difference == 0)
        for name in ("gensim.kv", "gensim.txt", "gensim.bin"):
            found = vectors.read(folder / name)
            difference = float(np.abs(found.matrix - table.matrix).max())
            row(f"gensim's, {name}, read by us", difference, list(found.words) == names and difference == 0)
        for name, model in models.items():
            answers = told["models"][name]
            largest = max(float(np.abs(model.vector(w) - np.array(v)).max()) for w, v in answers["vectors"].items())
            same = all(list(model.rows(word)) == rows for word, rows in answers["rows"].items())
            for text, official in answers.get("predictions", []):
                ours = model.predict(text, 3)
                same = same and [f"__label__{label}" for label, _ in ours] == [label for _, label in official]
                pairs = zip(ours, official, strict=True)
                largest = max([largest, *(abs(one[1] - other[0]) for one, other in pairs)])
            row(f"ours, {name}, read by fastText", largest, same and largest < 1e-5)
    return fine


def losses(path: Path) -> None:
    """What 8 bits and product codes lose on a table; usearch's 8 bits beside, which keep no lengths."""
    from sw2.parts.formats.compressed import EightBits, eight_bits, loss, product_codes
    from sw2.parts.formats.vectors import read

    matrix = read(path).matrix
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.float32(1e-30))
    # usearch scales a vector of length 1 by 127 for all rows alike.
    fixed = EightBits(np.rint(unit * 127).astype(np.int8), np.full(len(matrix), 1 / 127, np.float32))
    print(f"{matrix.shape[0]:,} words of {matrix.shape[1]} dimensions")
    print(f"{'8 bits, one scale, as usearch has them':<40}{loss(matrix, fixed)}")
    began = time.thread_time()
    rows = eight_bits(matrix)
    print(f"{'8 bits, a scale for each row':<40}{loss(matrix, rows)}; {time.thread_time() - began:.1f} s")
    for width in (1, 2, 4, 8):
        began = time.thread_time()
        codes = product_codes(matrix, min(width, matrix.shape[1]))
        took = time.thread_time() - began
        print(f"{f'product codes, a byte for {width}':<40}{loss(matrix, codes)}; {took:.1f} s")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--peer-python", help="an interpreter with gensim and fasttext")
    asked.add_argument("--table", type=Path, help="a file of word vectors")
    asked.add_argument("--golden", type=Path, help="make the tests' files in this folder, and nothing else")
    asked.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    asked.add_argument("--as-peer-golden", type=Path, help=argparse.SUPPRESS)
    told = asked.parse_args()
    if told.as_peer:
        peer_checks(told.as_peer)
    elif told.as_peer_golden:
        peer_golden(told.as_peer_golden)
    elif told.golden:
        subprocess.run([told.peer_python, __file__, "--as-peer-golden", str(told.golden)], check=True)
    else:
        if told.table:
            losses(told.table)
        if told.peer_python:
            sys.exit(0 if files(told.peer_python) else 1)
        if not told.table:
            print("Name --peer-python, an interpreter with gensim and fasttext, or --table, a file of word vectors.")


if __name__ == "__main__":
    main()
