"""What learning from preferences and rewards removes of the errors that fine-tuning left, beside two cheaper ways.

    sw2 train assistant arithmetic --minutes 60 --out runs/road
    python benchmarks/preferring.py runs/road/stages --skill arithmetic [--cases 400] [--best-of 8]

The folder is that of a chain's stages; "sft" is what all others began from. Every program answers the same held-out
questions of the skill greedily. "best of N" draws N answers of the fine-tuned program at temperature 1 and says the one
that the reward model likes best. Of each program: the share of right answers, how many of the fine-tuned program's
errors are gone, and the paired difference (95 %, bootstrap over questions) from fine-tuning continued for as long and
from best of N.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sw2
from sw2.core.capabilities import Rate
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.chat.judging import asked, check_answer
from sw2.domains.language.chat.named import conversations
from sw2.domains.language.chat.writer import ChatWriter
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.metrics.intervals import paired_bootstrap

MOST = 256


def writer_of(folder: Path) -> ChatWriter:
    return sw2.load(folder).capability(ChatWriter)


def passed(test: Sequence[Any], went: Sequence[Any]) -> list[float]:
    return [float(check_answer(example, messages).passed) for example, messages in zip(test, went, strict=True)]


def best_of(writer: ChatWriter, judge: Rate, test: Sequence[Any], count: int) -> list[float]:
    """Whether the answer that the judge likes best is right."""
    drawn = [
        asked(writer, test, Sampling(temperature=1.0, seed=1 + number), MOST)  # a seed of its own each time
        for number in range(count)
    ]
    scores = np.stack(
        [
            judge.rate(
                [
                    {"messages": went, "tools": example.get("tools") or ()}
                    if went and went[-1]["role"] == "assistant"
                    else {
                        "messages": [*went, {"role": "assistant", "content": ""}],
                        "tools": example.get("tools") or (),
                    }
                    for example, went in zip(test, each, strict=True)
                ]
            )
            for each in drawn
        ]
    )
    return passed(test, [drawn[int(best)][number] for number, best in enumerate(scores.argmax(0))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", type=Path)
    parser.add_argument("--skill", default="arithmetic")
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--best-of", type=int, default=8)
    given = parser.parse_args()
    options = ChatOptions(train=1, validation=0, test=given.cases)
    test = list(conversations(given.skill, options).split("test"))
    folders = {path.name.partition("-")[2]: path for path in sorted(given.stages.iterdir())}
    cold = Sampling(temperature=0.0)
    rows: dict[str, list[float]] = {}
    for name in ("sft", "sft-more", "dpo", "ppo", "grpo"):
        if name in folders:
            rows[name] = passed(test, asked(writer_of(folders[name]), test, cold, MOST))
            print(f"{name}: {np.mean(rows[name]):.3f} right", flush=True)  # the table takes a while
    if "reward" in folders:
        judge = sw2.load(folders["reward"]).capability(Rate)
        rows[f"best of {given.best_of}"] = best_of(writer_of(folders["sft"]), judge, test, given.best_of)
    rivals = [name for name in rows if name == "sft-more" or name.startswith("best of")]
    print(f"{'':<12}{'right':>7}{'errors gone':>13}" + "".join(f"{'less ' + rival:>32}" for rival in rivals))
    wrong = 1 - np.mean(rows["sft"])
    for name, cases in rows.items():
        cells = ""
        for rival in rivals:
            interval = paired_bootstrap(rows[rival], cases, seed=0)
            gain = np.mean(cases) - np.mean(rows[rival])
            cell = "" if rival == name else f"{gain:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
            cells += cell.rjust(32)
        gone = (np.mean(cases) - np.mean(rows["sft"])) / max(wrong, 1e-9)
        print(f"{name:<12}{np.mean(cases):>7.3f}{gone:>13.1%}{cells}")


if __name__ == "__main__":
    main()
