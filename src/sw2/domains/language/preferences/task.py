"""Reward modelling: a conversation with an answer in, how good the answer is out.

    Data → TextPrep (the tokenizer and chat template of the program to start from) → a Scorer → {"score": a number}

Scores of two answers to the same conversation are comparable: their difference is the log-odds that a judge like the
one that made the pairs prefers the first (Bradley & Terry). Alone a score means nothing.

Judged by **pair accuracy** on held-out pairs, of all and by kind of flaw, and by how far its odds can be believed
(expected calibration error). Baselines on the same pairs: the length of the answer alone, whichever way that is better
in training; a bag of words (logistic regression on the words that only one answer has); and chance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from sw2.base.errors import DataError, UsageError
from sw2.core.capabilities import Rate
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Score, Task
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.chat.task import ChatTask
from sw2.domains.language.chat.template import ChatTemplate
from sw2.domains.language.chat.writer import as_conversation
from sw2.domains.language.preferences import pairs as as_tokens
from sw2.domains.language.preferences.scorer import Scorer
from sw2.domains.language.prep import PrepConfig, TextPrep
from sw2.parts.metrics.intervals import wilson

__all__ = ["RewardJudge", "RewardModeling"]

_AT_ONCE: Final = 8
_BINS: Final = 10
_WORDS: Final = 4096


class RewardJudge(Runtime, Rate):
    """Says how good an answer is."""

    name = "reward-judge"
    Prep = TextPrep

    def __init__(self, nets: Mapping[str, Model], prep: TextPrep, uses: Mapping[str, Program]) -> None:
        del uses
        net = nets["scorer"]
        assert isinstance(net, Scorer)
        self.net, self.prep, self.template = net, prep, ChatTemplate.of(prep)

    def rate(self, conversations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        context = self.net.config.decoder.context
        found = []
        for number, each in enumerate(conversations):
            messages = each.get("messages") or ()
            if not messages or messages[-1].get("role") != "assistant":
                raise UsageError(
                    "A conversation is rated by its last answer.",
                    where=f"conversation {number}",
                    wanted="a last message of the assistant",
                    got=messages[-1].get("role") if messages else "no message",
                )
            answer = as_tokens.last_answer(self.template, each)
            # One that does not fit even alone is rated by as much of it as does.
            found.append(answer.within(context) or as_tokens.Answer(answer.tokens[-context:], 0))
        return self.rate_answers(found)

    @torch.inference_mode()
    def rate_answers(self, answers: Sequence[as_tokens.Answer]) -> np.ndarray:
        """Scores of encoded answers, float32 [N]; each at most as long as the context."""
        scores_N = np.zeros(len(answers), np.float32)
        order = sorted(range(len(answers)), key=lambda number: len(answers[number].tokens))
        for start in range(0, len(order), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            length = max(len(answers[number].tokens) for number in some)
            tokens_BT = torch.zeros(len(some), length, dtype=torch.int64)
            for row, number in enumerate(some):
                tokens_BT[row, : len(answers[number].tokens)] = torch.from_numpy(answers[number].tokens)
            scores_BT = self.net({"tokens": tokens_BT})["scores"]
            for row, number in enumerate(some):
                scores_N[number] = float(scores_BT[row, len(answers[number].tokens) - 1])
        return scores_N

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        """Rate each conversation: messages, or an object with "messages"."""
        return [{"score": float(score)} for score in self.rate([as_conversation(each) for each in inputs])]


class RewardModeling(Task):
    """The task at the top of this file."""

    name = "reward-modeling"
    inputs = {"messages": Kind("conversation")}
    outputs = {"score": Kind("number")}
    metric = "pair accuracy"
    runtime = RewardJudge.name
    Options = ChatOptions

    def __init__(self) -> None:
        self._chat = ChatTask()

    def read(self, source: str, options: ChatOptions, context: Context) -> Data:
        data = self._chat.read(source, options, context)
        splits = {split: as_tokens.only_pairs(examples) for split, examples in data.splits.items()}
        if not splits.get("train"):
            raise DataError(
                "There are no pairs of answers here.",
                where=source,
                wanted='conversations with "rejected": a worse last answer',
                got=f"{sum(map(len, data.splits.values()))} conversations without",
            )
        kept = {split: examples for split, examples in splits.items() if examples}
        return Data(**{**vars(data), "splits": kept})

    def question(self, example: Example) -> Any:
        return {"messages": example["messages"], "tools": example.get("tools") or []}

    def check(self, data: Data) -> CheckReport:
        train = data.split("train")
        flaws = sorted({str(example.get("flaw")) for example in train if example.get("flaw")})
        facts = {
            **{f"{split} pairs": len(examples) for split, examples in data.splits.items()},
            **({"flaws": ", ".join(flaws)} if flaws else {}),
            "longer is better in training": f"{_longer(train):.1%}",
        }
        return CheckReport(facts=facts)

    def prepare(self, train: Split, config: PrepConfig) -> TextPrep:
        prep = self._chat.prepare(train, config)
        assert isinstance(prep, TextPrep)
        return prep

    def adopt(self, prep: Any, train: Split) -> Any:
        return self._chat.adopt(prep, train)

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        runtime = program.capability(Rate)  # type: ignore[type-abstract]
        examples = as_tokens.only_pairs(held_out)
        better = runtime.rate([self.question(example) for example in examples])
        worse = runtime.rate([self.question(_with_rejected(example)) for example in examples])
        first, *rest = _accuracies(self.metric, better - worse, examples, "program")
        said = [
            (str(example["messages"][-1]["content"]), f"{margin:+.2f} above {example['rejected']['content']}")
            for example, margin in zip(examples, better - worse, strict=True)
        ]
        return [replace(first, answers=said), *rest]

    def baselines(self, data: Data, prep: Any, context: Context) -> Sequence[Score]:
        train, test = data.split("train"), data.split("test")
        sign = 1 if _longer(train) >= 0.5 else -1
        length = sign * np.array([_length(e["messages"][-1]) - _length(e["rejected"]) for e in test])
        words = _bag_of_words(train, test)
        return [
            *_accuracies(self.metric, words, test, "bag of words")[:1],
            *_accuracies(self.metric, length.astype(float), test, "length alone")[:1],
            Score(name=self.metric, value=0.5, better="higher", examples=len(test), of="chance"),
        ]


def _with_rejected(example: Example) -> Example:
    return {**example, "messages": [*example["messages"][:-1], example["rejected"]]}


def _accuracies(metric: str, margins_N: np.ndarray, examples: Split, of: str) -> list[Score]:
    """Accuracy of all pairs, by flaw where examples name them, and the calibration of the margins."""
    right_N = np.where(margins_N == 0, 0.5, margins_N > 0)
    odds_N = 1 / (1 + np.exp(-np.clip(np.abs(margins_N), 0, 50)))
    bins = np.clip(((odds_N - 0.5) * 2 * _BINS).astype(int), 0, _BINS - 1)
    table = [
        {"said": float(odds_N[bins == each].mean()), "right": float(right_N[bins == each].mean()), "pairs": int(n)}
        for each in range(_BINS)
        if (n := int((bins == each).sum()))
    ]
    error = sum(row["pairs"] * abs(row["said"] - row["right"]) for row in table) / len(examples)
    groups: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        if example.get("flaw"):
            groups.setdefault(str(example["flaw"]), []).append(number)

    def accuracy(name: str, numbers: Sequence[int], details: Mapping[str, Any]) -> Score:
        found = wilson(float(right_N[numbers].sum()), len(numbers))  # a tie is half right
        return Score.estimated(name, found, better="higher", examples=len(numbers), of=of, details=details)

    every = list(range(len(examples)))
    scores = [accuracy(metric, every, {"cases": right_N.tolist(), "calibration": table})]
    scores += [accuracy(f"{metric}: {flaw}", numbers, {}) for flaw, numbers in sorted(groups.items())]
    scores.append(Score(name="calibration error", value=error, better="lower", examples=len(examples), of=of))
    return scores


# ----------------------------------------------------------------------------------------------------------- baselines


def _length(message: Mapping[str, Any]) -> int:
    calls = sum(len(str(call["function"]["arguments"])) for call in message.get("tool_calls") or ())
    return len(str(message["content"] or "")) + calls


def _longer(examples: Split) -> float:
    """The share of pairs whose better answer is the longer one; a tie counts half."""
    differences = [_length(example["messages"][-1]) - _length(example["rejected"]) for example in examples]
    return float(np.mean([0.5 if each == 0 else each > 0 for each in differences]))


def _bag_of_words(train: Split, test: Split) -> np.ndarray:
    """Margins of a logistic regression on the difference of the two answers' words, float64 [N].

    Words are the commonest of training; 200 steps of full gradient descent with a little weight decay, which is enough
    for a yardstick.
    """
    counts: dict[str, int] = {}
    for example in train:
        for message in (example["messages"][-1], example["rejected"]):
            for word in _words(message):
                counts[word] = counts.get(word, 0) + 1
    known = {word: at for at, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word))[:_WORDS])}

    def features(examples: Split) -> np.ndarray:
        x_NV = np.zeros((len(examples), len(known)))
        for row, example in enumerate(examples):
            for sign, message in ((1, example["messages"][-1]), (-1, example["rejected"])):
                for word in _words(message):
                    if word in known:
                        x_NV[row, known[word]] += sign
        return x_NV

    x_NV = features(train)
    weights_V = np.zeros(len(known))
    scale = 4 / max(1e-9, float((x_NV**2).sum(1).mean()))
    for _ in range(200):
        wrong_N = 1 / (1 + np.exp(np.clip(x_NV @ weights_V, -50, 50)))
        weights_V += scale * (x_NV.T @ wrong_N / len(train) - 1e-4 * weights_V)
    margins: np.ndarray = features(test) @ weights_V
    return margins


def _words(message: Mapping[str, Any]) -> list[str]:
    text = str(message["content"] or "")
    for call in message.get("tool_calls") or ():
        text += " " + str(call["function"]["arguments"])
    return re.findall(r"\w+|[^\w\s]", text.lower())
