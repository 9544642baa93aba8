"""What votes and reviews bring, and what they cost: held-out cases of the skills, answered once, voted on, reviewed.

    python benchmarks/second_chance.py PROGRAM [--cases 100] [--skills records arithmetic] [--votes 5] [--reviews 1]

Each way answers the same cases; the checker of the skill says what is right. The gain over answering once is paired,
with its 95 % interval; the cost is in tokens written and in seconds, as ratios. Tools are run in all of them; an answer
that a review had written again without a call stands behind the calls of its draft, so that the result alone counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from sw2.catalog import catalog
from sw2.core.second_chance import Draft, second_chance
from sw2.core.task import Context
from sw2.domains.language.chat.judging import check_answer, prompt_of
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.skills.checking import DatasetOptions, dataset
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.metrics.intervals import paired_bootstrap, wilson


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--skills", nargs="+", default=["records", "arithmetic"])
    parser.add_argument("--votes", type=int, default=5)
    parser.add_argument("--reviews", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=256)
    asked = parser.parse_args()
    writer = catalog().program(asked.program, Context()).runtime
    assert isinstance(writer, ChatWriter), "a program that chats"
    ways = {
        "once": {},
        f"{asked.votes} votes": {"votes": asked.votes},
        f"{asked.reviews} reviews": {"reviews": asked.reviews},
    }
    print("| skill | way | right | gain over once | tokens | seconds |")
    print("|---|---|---|---|---|---|")
    for skill in asked.skills:
        cases = list(dataset(skill, DatasetOptions(train=1, validation=1, test=asked.cases))["test"])[: asked.cases]
        once: tuple[list[float], int, float] | None = None
        for way, chances in ways.items():
            begun = time.perf_counter()
            right, tokens = _answered(writer, cases, asked.max_tokens, chances)
            seconds = time.perf_counter() - begun
            once = once or (right, tokens, seconds)
            share, gain = wilson(int(sum(right)), len(right)), paired_bootstrap(once[0], right, seed=0)
            print(
                f"| {skill} | {way} | {share.value:.3f} ({share.low:.3f} to {share.high:.3f}) "
                f"| {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) "
                f"| {tokens / once[1]:.1f} x | {seconds / once[2]:.1f} x |",
                flush=True,
            )


def _answered(
    writer: ChatWriter, cases: Sequence[Any], max_tokens: int, chances: dict[str, int]
) -> tuple[list[float], int]:
    """What is right of each case, and how many tokens were written for all of them."""
    prompts = [prompt_of(case) for case in cases]
    tools = prompts[0]["tools"]  # of one skill all are the same
    said: dict[tuple[str, str], Sequence[Any]] = {}  # by question and answer: the messages, calls included
    drafted: dict[str, Sequence[Any]] = {}  # by question: those before the answer, in the first draft

    def write(talks: Sequence[Any], samplings: Sequence[Sampling], formed: bool) -> list[Draft]:
        offered = tools if formed else []
        told = [{"messages": list(talk), "tools": offered} for talk in talks]
        replies = writer.reply_many(told, list(samplings), max_tokens, at_once=32)
        for talk, each in zip(talks, replies, strict=True):
            question = next(message["content"] for message in talk if message["role"] == "user")
            written = each.messages[len(talk) :]
            before = drafted.setdefault(question, written[:-1])
            said[question, str(written[-1]["content"])] = written if len(written) > 1 else [*before, *written]
        return [
            Draft(text=str(each.messages[-1]["content"]), finished=each.finished, tokens=sum(each.written))
            for each in replies
        ]

    drafts = second_chance(write, [each["messages"] for each in prompts], Sampling(temperature=0.0), **chances)
    ended = [
        [*prompt["messages"], *said[next(m["content"] for m in prompt["messages"] if m["role"] == "user"), draft.text]]
        for prompt, draft in zip(prompts, drafts, strict=True)
    ]
    verdicts = [check_answer(case, talk) for case, talk in zip(cases, ended, strict=True)]
    return [float(each.passed) for each in verdicts], sum(each.tokens for each in drafts)


if __name__ == "__main__":
    main()
