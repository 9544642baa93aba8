"""The inference engine on a decoder of SmolLM2-135M's shape: batches, prompts known before, choices.

The weights are random. Bars: 8 requests at once give at least 3 times the tokens per second of one; the first token
after a prompt of 256 tokens that was read before comes in less than 0.2 of the time that it takes when it was not. The
comparisons take turns within each round, because other load on a machine moves any single timing by 15 % and more;
ratios are medians over rounds of the ratio within a round.

A table of the choice of one token from 49,152 follows (the decode step that it belongs to takes milliseconds), and what
a step costs beside its arithmetic: the same 30 layers so narrow that nothing is left of the matrix products.

    python benchmarks/engine.py [--rounds 5] [--threads 2] [--width 576]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from sw2.domains.language.decoder import Decoder
from sw2.parts.decoding.engine import Engine, Request, StepFunction, Stop
from sw2.parts.decoding.likelihood import likelihoods
from sw2.parts.decoding.sampling import USUAL, Chooser, Sampling

__all__ = ["main"]

VOCABULARY, DEPTH, HEADS, KV_HEADS = 49_152, 30, 9, 3
PROMPT, ANSWER, CAPACITY = 256, 32, 512
GREEDY = Sampling(temperature=0)


def decoder(width: int, hidden: int, vocabulary: int = VOCABULARY) -> Decoder:
    """30 layers, as SmolLM2-135M has them."""
    return Decoder(
        Decoder.Config(
            vocab_size=vocabulary,
            context=CAPACITY,
            width=width,
            depth=DEPTH,
            heads=HEADS,
            kv_heads=KV_HEADS,
            hidden=hidden,
        )
    ).eval()


def prompt(seed: int, length: int = PROMPT) -> list[int]:
    """Random tokens."""
    return torch.randint(VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def answering(step: StepFunction, requests: int) -> float:
    """Tokens per second of so many requests, from the moment when all have their first token."""
    engine = Engine(step)
    running = [engine.submit(prompt(seed, 32), GREEDY, Stop(max_tokens=ANSWER)) for seed in range(requests)]
    while not all(request.tokens for request in running):
        engine.step()
    before = sum(len(request.tokens) for request in running)
    began = time.perf_counter()
    while engine.busy():
        engine.step()
    return (sum(len(request.tokens) for request in running) - before) / (time.perf_counter() - began)


def first_token(engine: Engine, request: Request) -> float:
    """Seconds until `request`, just submitted, has its first token; others advance no further than that."""
    began = time.perf_counter()
    while not request.tokens:
        engine.step()
    return time.perf_counter() - began


def first_tokens(step: StepFunction, seed: int) -> dict[str, float]:
    """Seconds until the first token: a prompt never seen, the same again, and its beginning held by another slot."""
    engine = Engine(step)
    one = Stop(max_tokens=1)
    seen = prompt(seed)
    times = {
        "unseen": first_token(engine, engine.submit(seen, GREEDY, one)),
        "seen": first_token(engine, engine.submit(seen, GREEDY, one)),
    }
    # Half of the slot's tokens and less: it is left alone, and the beginning is copied out of it.
    long = engine.submit([*seen, *prompt(seed + 1, PROMPT - 40)], GREEDY, one)
    while engine.busy():
        engine.step()
    assert long.reused >= PROMPT - 1
    copied = engine.submit([*seen[:-8], *prompt(seed + 2, 8)], GREEDY, one)
    times["copied from another slot"] = first_token(engine, copied)
    return times


def choices() -> dict[str, float]:
    """Microseconds of one choice among the whole vocabulary, the median of 200; probabilities fall as rank^-1.5."""
    draws = torch.Generator().manual_seed(0)
    ranks = torch.arange(1, VOCABULARY + 1)[torch.randperm(VOCABULARY, generator=draws)]
    logits_V = -1.5 * ranks.float().log() + 0.5 * torch.randn(VOCABULARY, generator=draws)
    known = prompt(1, 1000)

    def chosen(sampling: Sampling) -> float:
        chooser = Chooser(sampling, known)
        return median_of(lambda: chooser.choose(logits_V), 200) * 1e6

    return {
        "greedy": chosen(GREEDY),
        "temperature": chosen(Sampling(temperature=0.8)),
        "temperature 0.8, top-p 0.95": chosen(USUAL),
        "temperature 0.8, top-k 40": chosen(Sampling(temperature=0.8, top_k=40)),
        "min-p 0.05": chosen(Sampling(min_p=0.05)),
        "top-k 40, top-p 0.95, min-p 0.05": chosen(Sampling(top_k=40, top_p=0.95, min_p=0.05)),
        "top-p 0.95 and three penalties": chosen(
            replace(USUAL, repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.1)
        ),
        "top-p 0.95, nearly even logits": median_of(lambda: Chooser(USUAL, known).choose(0.1 * logits_V), 200) * 1e6,
        "log-probabilities of the 5 likeliest": median_of(lambda: likelihoods(logits_V[None], [3], 5), 200) * 1e6,
    }


def median_of(work: Callable[[], object], times: int) -> float:
    """Seconds."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--width", type=int, default=576)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net = decoder(options.width, options.width * 8 // 3)
    steps = {
        "torch, fp32": net.cached_step(8, CAPACITY),
        "torch, fp32, 8-bit cache": net.cached_step(8, CAPACITY, torch.int8),
    }
    print(f"{DEPTH} layers of width {options.width}, {options.rounds} rounds, {options.threads} threads")
    for name, step in steps.items():
        one, eight, firsts = [], [], []
        answering(step, 1)
        for number in range(options.rounds):
            one.append(answering(step, 1))
            eight.append(answering(step, 8))
            firsts.append(first_tokens(step, 10 * number))
        ratio = statistics.median(many / single for many, single in zip(eight, one, strict=True))
        print(
            f"\n{name}\n  batch 1 {statistics.median(one):.1f} tokens/s, 8 at once {statistics.median(eight):.1f}: ",
            end="",
        )
        print(f"{ratio:.2f} times")
        for what in firsts[0]:
            share = statistics.median(each[what] / each["unseen"] for each in firsts)
            middle = statistics.median(each[what] for each in firsts)
            print(f"  first token, {PROMPT} tokens {what}: {middle * 1e3:.0f} ms, {share:.2f} of unseen")
    print("\none choice, µs")
    for name, found in choices().items():
        print(f"  {name:<40}{found:>6.0f}")
    narrow = decoder(2 * HEADS, 8, 64).cached_step(8, CAPACITY)
    print("\none step of 30 layers beside its arithmetic, ms")
    for rows in (1, 8):
        narrow([[1] * 200] * rows, range(rows), [0] * rows)
        taken = median_of(lambda rows=rows: narrow([[1]] * rows, range(rows), [200] * rows), 100)  # type: ignore[misc]
        print(f"  {rows} at once{taken * 1e3:>8.2f}")


if __name__ == "__main__":
    main()
