"""Tokens per second under a JSON Schema beside the same without, on `smollm2-135m-instruct`.

Both write after the same prompt (a review from which a record is asked for), as many tokens each, with the same bias
against the tokens that end a text; the schema wants more records than there is room for. Timed is decoding alone: from
the moment that every text has a token until all are written. The two take turns, because other load on a machine moves
any single timing by 15 % and more; the table gives the medians over the rounds and the median of the ratio within a
round, for one text and for eight at once, greedy and sampled as usual.

Besides, how long the library takes for the vocabulary (once for a tokenizer), for the schema (once for a constraint)
and for an answer's start; and of records that are let end, how many parse and have all their fields.

    python benchmarks/constrained_decoding.py [--rounds 5] [--tokens 128] [--threads 2] [--answers 40]

The bar is 0.9 of the unconstrained speed, and all answers that came to their end valid.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from sw2.catalog import catalog
from sw2.core.task import Context
from sw2.domains.language.chat.writer import ChatWriter
from sw2.parts.decoding.constraint import Compiler, Constraint
from sw2.parts.decoding.sampling import USUAL, Sampling

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sentiment": {"enum": ["positive", "negative"]},
        "anger": {"type": "boolean"},
        "item": {"type": "string", "maxLength": 60},
        "brand": {"type": "string", "maxLength": 60},
    },
    "required": ["sentiment", "anger", "item", "brand"],
    "additionalProperties": False,
}
MANY = Constraint.json_schema({"type": "array", "items": RECORD, "minItems": 100})
ONE = Constraint.json_schema(RECORD)
REVIEW = (
    "Give the sentiment, the anger, the item and the brand of this review as JSON. Review: the bedside lamp came two "
    "days early, but a part was missing; Nordlicht sent it within the week and asked twice whether all was well."
)


def decoded(writer: ChatWriter, texts: int, tokens: int, sampling: Sampling, constraint: Constraint | None) -> float:
    """Tokens per second of all texts together."""
    engine = writer.text_engine(texts)
    prompt = writer.template.tokens([{"role": "user", "content": REVIEW}])
    requests = [
        engine.submit(prompt, replace(sampling, seed=seed), max_tokens=tokens, constraint=constraint)
        for seed in range(texts)
    ]
    while not all(request.request.tokens for request in requests):
        engine.step()
    written = sum(len(request.request.tokens) for request in requests)
    begin = time.perf_counter()
    while engine.busy():
        engine.step()
    seconds = time.perf_counter() - begin
    return (sum(len(request.request.tokens) for request in requests) - written) / seconds


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def valid(text: str) -> bool:
    """Whether a record parses and has its fields, each of its kind."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return (
        set(found) == set(RECORD["required"])
        and found["sentiment"] in ("positive", "negative")
        and isinstance(found["anger"], bool)
        and all(isinstance(found[name], str) and len(found[name]) <= 60 for name in ("item", "brand"))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--answers", type=int, default=40, help="records that are let end, every other one greedy")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    writer = catalog().program("smollm2-135m-instruct", Context(confirm=lambda question: True)).runtime
    assert isinstance(writer, ChatWriter)

    tokenizer = writer.prep.tokenizer
    tokenizer.token_bytes(0)  # the table of bytes is the tokenizer's own work
    made: list[Compiler] = []
    print(f"vocabulary  {milliseconds(lambda: made.append(Compiler(tokenizer))):8.1f} ms")
    print(f"schema      {milliseconds(lambda: made[0].matcher(ONE, ())):8.1f} ms")
    print(f"answer      {milliseconds(lambda: made[0].matcher(ONE, ())):8.2f} ms")

    goes_on = tuple((tokenizer.control[name], -1e9) for name in writer.prep.controls.ends)
    print(f"\n{'':<18}{'free':>10}{'schema':>10}   tokens/s\n")
    for name, sampling in (("greedy", Sampling(temperature=0.0)), ("usual", USUAL)):
        sampling = replace(sampling, logit_bias=goes_on)
        for texts in (1, 8):
            rounds = [
                [decoded(writer, texts, arguments.tokens, sampling, constraint) for constraint in (None, MANY)]
                for _ in range(arguments.rounds + 1)
            ][1:]  # the first warms up
            free, bound = (statistics.median(each) for each in zip(*rounds, strict=True))
            ratio = statistics.median(bound / free for free, bound in rounds)
            print(f"{name}, {texts} at once".ljust(18) + f"{free:10.1f}{bound:10.1f}   ratio {ratio:.3f}")

    ended = complete = 0
    prompts = [writer.template.tokens([{"role": "user", "content": REVIEW}])] * arguments.answers
    samplings = [replace(USUAL, temperature=float(seed % 2), seed=seed) for seed in range(arguments.answers)]
    texts = [""] * arguments.answers
    for number, piece in writer.generate_many(prompts, samplings, max_tokens=200, constraint=ONE):
        texts[number] += piece.text
        if piece.finished == "end":
            ended += 1
            complete += valid(texts[number])
    print(
        f"\nof {arguments.answers} records {ended} came to their end within 200 tokens, {complete} of those are valid"
    )


if __name__ == "__main__":
    main()
