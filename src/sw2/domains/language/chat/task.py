"""Chat: a conversation in, the assistant's next message out.

    Data → TextPrep (a tokenizer with the control tokens of a chat template) → a decoder → {"text": the message}

Judged by the **loss per token** of the answers on held-out conversations: -ln p of all tokens that the assistant wrote,
the end of each answer included, divided by their number. Where examples say how an answer is checked, also by the share
of questions that are answered rightly, tools included, per skill.

Baselines, on the same tokens: the program that learning started from (with rows for new control tokens, untuned), a
Kneser-Ney 5-gram model of the answers, and chance, ln V. What the start answers rightly is asked of it as it is, with
its own template.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch

from sw2.base.errors import DataError
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.program import Program
from sw2.core.task import CheckReport, Context, Prep, Score, Shown, Task
from sw2.domains.language.chat.conversations import ChatOptions, kinds_of_faults, overlap
from sw2.domains.language.chat.judging import asked, check_answer, prompt_of
from sw2.domains.language.chat.named import conversations
from sw2.domains.language.chat.template import IM_END, IM_START, ChatTemplate, Marked, own_controls
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.decoder import Decoder
from sw2.domains.language.ngram import NGram
from sw2.domains.language.prep import Controls, PrepConfig, TextPrep
from sw2.domains.language.starting import decoder_of, with_vocabulary
from sw2.domains.language.tokenizer import Tokenizer
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.metrics.intervals import bootstrap, wilson

__all__ = ["ChatTask", "answer_nats", "marked"]

_LOGITS_AT_ONCE: Final = 2**27
_ANSWERED: Final = 200
"""How many held-out questions are answered at most: writing takes a thousand times as long as reading."""
_ANSWER: Final = 512


class ChatTask(Task):
    """The task at the top of this file."""

    name = "chat"
    inputs = {"messages": Kind("conversation")}
    outputs = {"text": Kind("text")}
    metric = "loss per token"
    runtime = ChatWriter.name
    Options = ChatOptions

    def read(self, source: str, options: ChatOptions, context: Context) -> Data:
        del context
        return conversations(source, options)

    def question(self, example: Example) -> Any:
        return prompt_of(example)

    def check(self, data: Data) -> CheckReport:
        facts: dict[str, Any] = {}
        for name, split in data.splits.items():
            turns = sum(message["role"] == "assistant" for example in split for message in example["messages"])
            sizes = [_characters(example) for example in split]
            ours, whole = (sum(each) for each in zip(*sizes, strict=True))
            longest = max(range(len(split)), key=lambda number: sizes[number][1])
            facts[name] = (
                f"{len(split)} conversations, {turns} answers with {ours / max(1, whole):.0%} of the characters; the "
                f"longest has {sizes[longest][1]} ({split[longest]['where']})"
            )
        for name in ("validation", "test"):
            if name in data.splits:
                share = overlap(data.split("train"), data.split(name))
                facts[f"{name} overlap"] = f"{share:.1%} of its four-grams of words stand in train too"
        notes = kinds_of_faults(data.rejected)
        if copies := data.facts["equal conversations dropped"]:
            notes.append(f"{copies} conversations were copies of others and dropped")
        return CheckReport(facts=facts, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> TextPrep:
        control = (IM_START, IM_END)
        size = max(257, config.vocab_size - len(control))
        tokenizer = Tokenizer.train(_texts(train), size, single_digits=config.digits == "single")
        return TextPrep(tokenizer.with_control(*control), config, own_controls(Controls()))

    def adopt(self, prep: Prep, train: Split) -> TextPrep:
        """The tokenizer and template of the start; ours where it has no template, or one without the tools in use."""
        assert isinstance(prep, TextPrep)
        uses_tools = any(example["tools"] or _calls(example) for example in train)
        if prep.controls.chat_template and (not uses_tools or ChatTemplate.of(prep).knows_tools):
            return prep
        tokenizer = prep.tokenizer.with_control(IM_START, IM_END)
        return TextPrep(tokenizer, prep.config, own_controls(prep.controls))

    def show(self, example: Example, prep: Prep) -> list[list[Shown]]:
        assert isinstance(prep, TextPrep)
        names = {number: name for name, number in prep.tokenizer.control.items()}
        rows = []
        for row in ChatTemplate.of(prep).marked(example["messages"], example["tools"]):
            pieces: list[tuple[bytes, bool]] = []
            for token, learned in zip(row.tokens, row.written, strict=True):
                text = names[token].encode() if token in names else prep.tokenizer.token_bytes(token)
                if pieces and pieces[-1][1] == learned:
                    text = pieces.pop()[0] + text
                pieces.append((text, learned))
            rows.append([Shown(text.decode(errors="replace"), learned) for text, learned in pieces])
        return rows

    def baselines(self, data: Data, prep: Prep, context: Context) -> Sequence[Score]:
        test = data.split("test")
        prep = self.adopt(prep, test)
        answers = [answer for row in marked(prep, test) for answer in _answers(row)]
        count = sum(map(len, answers))
        vocabulary = prep.tokenizer.vocab_size
        context.say("fitting a Kneser-Ney 5-gram model on the answers")
        ngram = NGram(
            (answer for row in marked(prep, data.split("train")) for answer in _answers(row)),
            vocab_size=vocabulary,
            end_of_text=prep.tokenizer.end_of_text,
        )
        losses = {
            "Kneser-Ney 5-gram of the answers": ngram.bits(answers) * math.log(2) / count,
            "chance": math.log(vocabulary),
        }
        scores = [
            Score(name=self.metric, value=value, better="lower", examples=len(test), of=name)
            for name, value in losses.items()
        ]
        if context.start is not None:
            context.say("judging the program that learning started from")
            scores = [*_scores(context.start, prep, test, context, of="the program to start from"), *scores]
        return scores

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        decoder_of(program)  # complains where there is none
        return _scores(program, self.adopt(program.prep, held_out), held_out, context)


# ------------------------------------------------------------------------------------------------------------- reading


def _texts(train: Split) -> Iterator[str]:
    """What a tokenizer of these conversations should know."""
    for example in train:
        for tool in example["tools"]:
            yield json.dumps(tool.get("function", tool), ensure_ascii=False)
        for message in example["messages"]:
            yield str(message["role"])
            yield str(message["content"] or "")
            for call in message.get("tool_calls") or ():
                function = call["function"]
                yield f'<tool_call>{{"name": "{function["name"]}", "arguments": {function["arguments"]}}}</tool_call>'


def _characters(example: Example) -> tuple[int, int]:
    """How many the assistant wrote, and how many there are."""
    ours, whole = 0, sum(len(str(tool)) for tool in example["tools"])
    for message in example["messages"]:
        size = len(message["content"] or "") + sum(len(str(call)) for call in message.get("tool_calls") or ())
        whole += size
        ours += size * (message["role"] == "assistant")
    return ours, whole


def _calls(example: Example) -> bool:
    return any(message.get("tool_calls") for message in example["messages"])


def marked(prep: TextPrep, examples: Split) -> Iterator[Marked]:
    """The rows to learn from or to judge on, in order."""
    template = ChatTemplate.of(prep)
    for example in examples:
        yield from template.marked(example["messages"], example["tools"])


def _answers(row: Marked) -> list[np.ndarray]:
    """The tokens of each answer in a row."""
    tokens, written = np.asarray(row.tokens), np.asarray(row.written)
    borders = np.flatnonzero(np.diff(written, prepend=False, append=False))
    return [tokens[begin:end] for begin, end in zip(borders[::2], borders[1::2], strict=True)]


# ------------------------------------------------------------------------------------------------------------- judging


@torch.inference_mode()
def answer_nats(net: Decoder, rows: Sequence[Marked]) -> np.ndarray:
    """-ln p of the written tokens of each row, and how many they are: float64 [rows, 2].

    A row longer than the context counts as far as it fits.
    """
    found = np.zeros((len(rows), 2))
    waiting = sorted(range(len(rows)), key=lambda number: len(rows[number].tokens))
    while waiting:
        width = min(net.config.context, len(rows[waiting[-1]].tokens) - 1)
        size = max(1, min(16, _LOGITS_AT_ONCE // (width * net.config.vocab_size)))
        waiting, numbers = waiting[:-size], waiting[-size:]
        tokens_BT = torch.zeros(len(numbers), width, dtype=torch.int64)
        targets_BT = torch.full((len(numbers), width), -1, dtype=torch.int64)
        for row, number in enumerate(numbers):
            known = torch.tensor(rows[number].tokens[: width + 1])
            written = torch.tensor(rows[number].written[1 : width + 1])
            tokens_BT[row, : len(known) - 1] = known[:-1]
            targets_BT[row, : len(known) - 1] = torch.where(written, known[1:], -1)
        nats_BT = net({"tokens": tokens_BT, "targets": targets_BT})["nats"]
        found[numbers, 0] = nats_BT.double().sum(1).numpy()
        found[numbers, 1] = (targets_BT >= 0).sum(1).numpy()
    return found


def _loss(net: Decoder, prep: TextPrep, examples: Split, context: Context, of: str) -> Score:
    nats = answer_nats(net, list(marked(prep, examples)))
    if not nats[:, 1].sum():
        raise DataError("There is no answer to judge on.", wanted="one token in the context", got="none")
    return Score.estimated(
        ChatTask.metric,
        bootstrap(nats, lambda rows: rows[:, 0].sum() / rows[:, 1].sum(), seed=context.seed),
        better="lower",
        examples=len(examples),
        of=of,
        details={"tokens of answers": int(nats[:, 1].sum())},
    )


def _passed(writer: ChatWriter, examples: Split, context: Context, of: str) -> list[Score]:
    """What share of the checked examples is answered rightly: all of them, and by skill."""
    checked = [example for example in examples if example.get("check")]
    if not checked:
        return []
    if len(checked) > _ANSWERED:  # evenly from all of them: skills may stand one after the other
        checked = [checked[number * len(checked) // _ANSWERED] for number in range(_ANSWERED)]
    context.say(f"answering {len(checked)} held-out questions")
    most = max(1, min(_ANSWER, writer.net.config.context // 2))
    went = asked(writer, checked, Sampling(temperature=0.0), most)
    verdicts = [check_answer(example, messages) for example, messages in zip(checked, went, strict=True)]
    by_skill: dict[str, list[bool]] = {"": [verdict.passed for verdict in verdicts]}
    for example, verdict in zip(checked, verdicts, strict=True):
        if example.get("skill"):
            by_skill.setdefault(str(example["skill"]), []).append(verdict.passed)
    flaws: dict[str, int] = {}
    for verdict in verdicts:
        for flaw in verdict.flaws:
            kind = flaw.partition(":")[0]
            flaws[kind] = flaws.get(kind, 0) + 1
    details = {
        "cases": [float(verdict.passed) for verdict in verdicts],
        "flaws": dict(sorted(flaws.items(), key=lambda each: -each[1])),
        "samples": [
            {
                "prompt": _asked(example),
                "text": str(messages[-1]["content"]),
                "passed": verdict.passed,
                "flaws": list(verdict.flaws),
            }
            for example, messages, verdict in list(zip(checked, went, verdicts, strict=True))[:8]
        ],
        "mean score": sum(verdict.score for verdict in verdicts) / len(verdicts),
    }
    answers = [(_asked(example), str(messages[-1]["content"]) if messages else "") for example, messages in zip(
        checked, went, strict=True
    )]  # fmt: skip
    return [
        Score.estimated(
            "passed" + (f": {skill}" if skill else ""),
            wilson(sum(passed), len(passed)),
            better="higher",
            examples=len(passed),
            of=of,
            details=details if not skill else {},
            answers=answers if not skill else (),
        )
        for skill, passed in by_skill.items()
        if not skill or len(by_skill) > 2
    ]


def _asked(example: Example) -> str:
    return str(prompt_of(example)["messages"][-1]["content"])


def _scores(program: Program, prep: TextPrep, examples: Split, context: Context, of: str = "program") -> list[Score]:
    """The loss on the tokens of `prep`, with untuned rows for those that the program lacks; and what it answers rightly
    as it is: without tools where its own template knows none.
    """
    net = with_vocabulary(decoder_of(program), prep.tokenizer.vocab_size).eval()
    try:
        scores = [_loss(net, prep, examples, context, of)]
    except DataError:  # its context ends before any answer begins
        if of == "program":
            raise
        scores = []
    if not isinstance(program.runtime, ChatWriter):
        return scores
    if not program.runtime.template.knows_tools:
        examples = [{**example, "tools": []} for example in examples if not _calls(prompt_of(example))]
    return [*scores, *_passed(program.runtime, examples, context, of)]
