"""What `word_vectors.py` and `word_forms.py` have in common: one text for all, learned from as `sw2 train` does it."""

from __future__ import annotations

import time
from collections.abc import Container
from pathlib import Path
from typing import Any, Final

__all__ = ["DIMENSIONS", "LEAST", "NEGATIVES", "RATES", "SUBSAMPLE", "WINDOW", "learned", "peak", "prepared"]

DIMENSIONS, WINDOW, NEGATIVES, LEAST, SUBSAMPLE = 100, 5, 5, 5, 1e-3
RATES: Final = {"skip-gram": 0.025, "cbow": 0.05, "fasttext": 0.05}


def prepared(corpus: str, text: Path, copies: int = 1, without: Container[str] = frozenset()) -> int:
    """Write the corpus as words between spaces, without some; how many words there are.

    Args:
        corpus: what `sw2 train word-vectors` takes.
        text: the file.
        copies: how often, one after the other.
        without: words that are left out.
    """
    from sw2.domains.words.corpus import Corpus, CorpusOptions, read_corpus

    found = read_corpus(corpus, CorpusOptions(test_share=0), 0).split("train")
    assert isinstance(found, Corpus)
    written = 0
    with open(text, "w", encoding="utf-8") as file:
        for _ in range(copies):
            for words in found.words():
                kept = [word for word in words if word not in without]
                written += len(kept)
                file.write(" ".join(kept) + "\n")
    return written


def learned(
    model: str,
    text: Path,
    *,
    epochs: int,
    threads: int,
    seed: int,
    least: int = LEAST,
    tree: bool = False,
    buckets: int = 0,
) -> tuple[Any, dict[str, float]]:
    """Learn as `sw2 train` does, without the driver around it: the program, and the seconds of learning and of all.

    Args:
        model: of the task.
        text: words between spaces.
        epochs, threads, seed: of learning; vectors before it with 0 epochs.
        least: occurrences that a word needs.
        tree: hierarchical softmax instead of words drawn.
        buckets: of n-grams, with fasttext.
    """
    import torch

    from sw2.base.config import replace
    from sw2.catalog import catalog
    from sw2.core.domain import Request
    from sw2.core.objective import Clock, Job
    from sw2.core.task import Context
    from sw2.domains.words.corpus import CorpusOptions
    from sw2.domains.words.vocabulary import PrepConfig

    found = catalog()
    task, derived = found.task("word-vectors"), found.recipe("word-vectors")
    began = time.perf_counter()
    data = task.read(str(text), CorpusOptions(rule="spaces", case="kept", test_share=0), Context())
    recipe = derived(Request(data=data, preset="small", model=model))
    config = replace(recipe.learn_config, threads=threads)
    if model in RATES:
        config = replace(
            config,
            window=WINDOW,
            negatives=0 if tree else NEGATIVES,
            learning_rate=RATES[model],
            subsample=SUBSAMPLE,
        )
    objective: Any = found.objective(recipe.objective, config, task.name)
    sized: Any = {"buckets": buckets} if model == "fasttext" else {}
    job = Job(
        task=task,
        data=data,
        prep=task.prepare(data.split("train"), PrepConfig(min_count=least)),
        model_name=model,
        model_class=found.model_class(model),
        model_config=replace(recipe.model_config, dimensions=DIMENSIONS, **sized),
        seed=seed,
        device=torch.device("cpu"),
    )
    job = replace(job, choices=objective.choose(job).values)
    state = objective.start(job)
    steps = max(1, round(epochs * objective.steps_per_epoch(state))) if epochs else 0
    learning = time.perf_counter()
    for step in range(steps):
        objective.step(state, Clock(step, steps))
    ended = time.perf_counter()
    return objective.finish(state), {"learning": ended - learning, "all": ended - began}


def peak() -> float:
    """The most memory that this process has had, in bytes; unlike `ru_maxrss` without that of the one it came from."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * float(line.split()[1])
    raise OSError("/proc/self/status tells no VmHWM.")
