"""An assistant's skills on held-out cases, beside the model that it was made from: answers, slots, whole orders, JSON.

    sw2 train chat assistant --from smollm2-135m-instruct --minutes 60 --out runs/assistant
    python benchmarks/assistant_skills.py runs/assistant smollm2-135m-instruct [--cases 200] [--skills orderbot records]

Each program is asked the same questions of each skill's test, greedily; orders are whole conversations with a simulated
customer. A program whose chat template knows no tools is asked without them. "right" are answers without a flaw, with a
Wilson interval; "parts" is the mean share of what matters in an answer (slots of an order, fields of a JSON object).
A message has at most 512 tokens, in orders 200: the longest of a bot that follows the rules has 183.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

from sw2.catalog import catalog
from sw2.core.task import Context
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.chat.judging import asked, check_answer
from sw2.domains.language.chat.named import conversations
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.skills.checking import SKILLS
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.metrics.intervals import wilson


def judged(writer: ChatWriter, skill: str, cases: int) -> str:
    """The row of a skill."""
    test: list[Any] = list(conversations(skill, ChatOptions(train=1, validation=0, test=cases)).split("test"))
    if not writer.template.knows_tools:
        test = [{**example, "tools": []} for example in test]
    began = time.monotonic()
    went = asked(writer, test, Sampling(temperature=0.0), 200 if skill == "orderbot" else 512)
    verdicts = [check_answer(example, messages) for example, messages in zip(test, went, strict=True)]
    right = sum(verdict.passed for verdict in verdicts)
    interval = wilson(right, len(verdicts))
    parts = sum(verdict.score for verdict in verdicts) / len(verdicts)
    valid = [verdict.details["valid"] for verdict in verdicts if "valid" in verdict.details]
    json_share = f"{sum(valid) / len(valid):.3f}" if valid else ""
    flaws = Counter(kind for verdict in verdicts for kind in {flaw.partition(":")[0] for flaw in verdict.flaws})
    said = ", ".join(f"{kind} {count}" for kind, count in flaws.most_common(5))
    return (
        f"{skill:<14}{len(verdicts):>5}{right / len(verdicts):>8.3f}  {interval.low:.3f} to {interval.high:.3f}"
        f"{parts:>8.3f}{json_share:>7}{time.monotonic() - began:>7.0f} s   {said}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs="+")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--skills", nargs="+", default=list(SKILLS), choices=list(SKILLS))
    given = parser.parse_args()
    for name in given.programs:
        writer = catalog().program(name, Context(confirm=lambda question: True)).runtime
        assert isinstance(writer, ChatWriter), f"{name} does not chat"
        print(f"\n{name}\n{'':<14}cases   right  95 % interval   parts   JSON   time   flaws by cases")
        for skill in given.skills:
            print(judged(writer, skill, given.cases), flush=True)


if __name__ == "__main__":
    main()
