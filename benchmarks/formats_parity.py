"""Answers beside transformers and llama.cpp: our exports in their hands, and SmolLM2's own file in all three.

Teacher-forced on 20 x 64 tokens of Python's standard library: every next-token distribution is compared with ours. The
table gives the largest difference of a logit (as a share of the largest), the mean KL divergence in nats, and how often
the likeliest token differs where our two best are further apart than 0.1 (files of 32 bits) or 0.5 (4 bits: llama.cpp
rounds activations to 8 bits, too); that must be never. Tokenisers are compared on the same text.

The peers run under an interpreter of their own, which has transformers, gguf and llama-cpp-python:

    python benchmarks/formats_parity.py --peer-python PATH
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

__all__ = ["main"]

ROWS, LENGTH = 20, 64
ODD = "naïve  1234567 ﬁ\n\n\tdef f(x):  # 日本語 🙂 \u00a0 isn't I'LL ...!!!\n    return x  <|endoftext|>\n"


def text() -> str:
    """Real text, with some odd characters in front."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return ODD + "".join(
        (folder / name).read_text(encoding="utf-8") for name in ("heapq.py", "textwrap.py", "bisect.py")
    )


def transformers_answers(path: Path, gguf_file: str | None, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Logits [rows, length, vocabulary] and the ids of the text, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    extra = {"gguf_file": gguf_file} if gguf_file else {}
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **extra).eval()
    ids = AutoTokenizer.from_pretrained(path, **extra)(text(), add_special_tokens=False, split_special_tokens=True)
    with torch.inference_mode():
        logits = np.stack([model(input_ids=torch.tensor(row[None])).logits[0].numpy() for row in tokens])
    return {"logits": logits, "ids": np.array(ids["input_ids"])}


def llama_answers(path: Path, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """The same by llama.cpp."""
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=LENGTH, logits_all=True, n_threads=2, verbose=False)
    ids = model.tokenize(text().encode(), add_bos=False, special=False)
    logits = []
    for row in tokens:
        model.reset()
        model.eval(row.tolist())
        logits.append(np.array(model.scores[: len(row)]))
    return {"logits": np.stack(logits), "ids": np.array(ids)}


def ask(python: str, who: str, path: Path, tokens: np.ndarray, gguf_file: str | None = None) -> dict[str, np.ndarray]:
    """A peer's answers, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/tokens.npy", tokens)
        command = [python, __file__, "--be", who, "--path", str(path), "--folder", folder]
        done = subprocess.run(
            command + (["--gguf-file", gguf_file] if gguf_file else []), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{who} failed:\n{done.stderr[-3000:]}")
        with np.load(f"{folder}/answers.npz") as answers:
            return dict(answers)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def compare(name: str, ours: np.ndarray, answers: dict[str, np.ndarray], margin: float, ids: list[int]) -> bool:
    """Print a row; whether the likeliest tokens agree where they must, and the tokenisers do."""
    theirs = answers["logits"]
    off = np.abs(theirs - ours).max() / np.abs(ours).max()
    p, q = log_softmax(ours), log_softmax(theirs)
    divergence = (np.exp(p) * (p - q)).sum(-1).mean()
    best = np.sort(ours, axis=-1)[..., -2:]
    clear = best[..., 1] - best[..., 0] > margin
    wrong = int((clear & (ours.argmax(-1) != theirs.argmax(-1))).sum())
    same = answers["ids"].tolist() == ids
    agree = f"{wrong} of {int(clear.sum())}"
    print(f"{name:<48}{off:>10.1e}{divergence:>11.1e}{agree:>14}{'equal' if same else 'DIFFER':>8}", flush=True)
    # transformers rebuilds the tokenizer of a GGUF file by a rule of its own; llama.cpp reads the one that is meant.
    return wrong == 0 and (same or "own GGUF in transformers" in name)


def main() -> None:
    """Print the table; exit code 1 when anything differs that must not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--be", choices=["transformers", "llama.cpp"], help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--gguf-file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        tokens = np.load(options.folder / "tokens.npy")
        found = (
            transformers_answers(options.path, options.gguf_file, tokens)
            if options.be == "transformers"
            else llama_answers(options.path, tokens)
        )
        np.savez(options.folder / "answers.npz", **found)
        return

    import torch

    import sw2
    from sw2.base.store import home as store_home
    from sw2.domains.language.task import TextWriter
    from sw2.verbs.export import export

    fine = True
    print(f"{'':<48}{'largest':>10}{'KL':>11}{'likeliest':>14}{'tokens':>8}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        trained = sw2.train(
            "text-generation",
            "python-stdlib",
            preset="tiny",
            steps=300,
            settings={"model.recall": 0, "model.context": 128},
            out=home / "run",
        )
        chat = sw2.load("smollm2-135m-instruct", install=True)
        for title, program in (("trained here", trained), ("SmolLM2", chat)):
            writer = program.capability(TextWriter)
            ids = writer.prep.tokenizer.encode(text())
            tokens = np.array(ids[: ROWS * LENGTH]).reshape(ROWS, LENGTH)
            with torch.inference_mode():
                ours = np.stack(
                    [writer.net({"tokens": torch.tensor(row[None])})["logits"][0].numpy() for row in tokens]
                )
            short = title.split()[0]
            export(program, home / f"{short}-folder", "huggingface")
            export(program, home / f"{short}-gguf", "gguf")
            exported = home / f"{short}-gguf" / "model.gguf"
            python = options.peer_python
            rows = [
                ("our folder in transformers", ask(python, "transformers", home / f"{short}-folder", tokens), 0.1),
                ("our GGUF in llama.cpp", ask(python, "llama.cpp", exported, tokens), 0.1),
            ]
            if title == "SmolLM2":
                own = store_home() / "weights" / str(program.card.facts["read from"])
                rows += [
                    ("its own GGUF in transformers", ask(python, "transformers", own.parent, tokens, own.name), 0.1),
                    ("its own GGUF in llama.cpp (4 bits)", ask(python, "llama.cpp", own, tokens), 0.5),
                ]
            for what, answers, margin in rows:
                fine &= compare(f"{title}: {what}", ours, answers, margin, ids)
    print(json.dumps({"agree": fine}))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
