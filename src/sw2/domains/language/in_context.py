"""In-context learning: how much better a program gets with each example in its prompt.

    Write each word backwards.
    stone => enots
    river => revir
    cloud =>

Nothing is learned in the weights; whoever goes on with " duolc" has found the rule in the prompt. Score against number
of examples, 0 to 16, is the learning curve of GPT-3's paper (Brown et al. 2020, https://arxiv.org/abs/2005.14165,
figure 1.2 and section 3.9), here on ten small tasks made by code: no download, the same for every program.

Judged by one teacher-forced pass over the answer and the end of its line:

    accuracy                every token of them is the likeliest in its place, so that greedy writing gives the answer
    bits per answer byte    their negative log2 probability divided by their UTF-8 bytes; falls before accuracy rises

The examples of a question are drawn from its task's other items, and fewer examples are the first of more, so that the
points of a curve differ in their number alone. Beside them stand chance (an answer drawn from the task's distinct ones)
and two rules that see the same examples: the most frequent answer shown, and the answer of the question most alike.

What it does not do: GPT-3's own test sets; other templates; choosing examples.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sw2.base.config import check_ranges
from sw2.base.errors import UsageError
from sw2.base.seed import numpy_generator
from sw2.base.store import sha256_of_bytes
from sw2.core.capabilities import Generate
from sw2.core.data import Data, Example, Split
from sw2.core.program import Program
from sw2.core.task import Context, Judge, Score
from sw2.parts.metrics.intervals import bootstrap, paired_bootstrap, wilson

__all__ = ["TASKS", "InContext", "InContextOptions", "SmallTask", "prompt"]

SHOTS: Final = (0, 1, 2, 4, 8, 16, 32, 64)

_WORDS = """
able apple autumn basket beach bird blanket board bottle bread bridge brother butter candle carpet castle chair cheese
child circle clock cloud coffee corner cotton cousin cradle dance desert dinner doctor dragon dream earth engine
evening family farmer father feather field finger flower forest garden ginger glass gold grape green guitar hammer
harbor honey horse house island jacket jungle kettle kitchen ladder lake lamp leather lemon letter light lion market
meadow mirror monday money morning mother mountain music needle night north number ocean orange oven paint paper
pencil pepper piano picture pillow planet plate pocket potato prince queen rabbit rain river road robin rocket rose
sailor salt sand school season shadow shirt silver singer sister smoke snow song spider spring square stone storm
story street sugar summer sun table teacher thunder ticket tiger tower train tree tunnel uncle valley velvet violin
wagon water weather wheel whisper window winter wolf wood yellow
"""

_PLURALS = """
apple apples, baby babies, box boxes, boy boys, bus buses, child children, church churches, city cities, day days,
dish dishes, fish fish, foot feet, fox foxes, glass glasses, goose geese, half halves, hero heroes, house houses, key
keys, knife knives, lady ladies, leaf leaves, life lives, loaf loaves, man men, match matches, mouse mice, ox oxen,
party parties, person people, piano pianos, potato potatoes, school schools, shelf shelves, sheep sheep, story
stories, thief thieves, tomato tomatoes, tooth teeth, toy toys, tree trees, wife wives, wolf wolves, woman women
"""
_OPPOSITES = """
above below, alive dead, asleep awake, begin end, big small, black white, brave afraid, bright dark, buy sell, clean
dirty, come go, cold hot, day night, deep shallow, dry wet, early late, easy hard, empty full, enemy friend, fast
slow, fat thin, first last, floor ceiling, give take, good bad, happy sad, heavy light, high low, inside outside, left
right, long short, loud quiet, love hate, more less, near far, new old, north south, open closed, poor rich, push
pull, question answer, rough smooth, sharp blunt, sick healthy, strong weak, sweet sour, thick thin, true false, up
down, war peace, win lose, wide narrow, young old
"""
_PAST = """
become became, begin began, break broke, bring brought, build built, buy bought, call called, catch caught, choose
chose, come came, cut cut, dance danced, draw drew, drink drank, drive drove, eat ate, fall fell, feel felt, find
found, fly flew, forget forgot, give gave, go went, grow grew, hear heard, hold held, jump jumped, keep kept, know
knew, learn learned, leave left, lose lost, make made, meet met, play played, read read, ride rode, run ran, say said,
see saw, send sent, sing sang, sit sat, sleep slept, speak spoke, stand stood, stop stopped, swim swam, take took,
teach taught, think thought, try tried, walk walked, win won, work worked, write wrote
"""
_SEQUENCES = """
monday tuesday wednesday thursday friday saturday sunday; january february march april may june july august september
october november december; spring summer autumn winter; one two three four five six seven eight nine ten eleven
twelve; first second third fourth fifth sixth seventh eighth ninth tenth; a b c d e f g h i j k l m n o p q r s t u v
w x y z
"""
_MODULES = (
    *("base64", "bisect", "calendar", "colorsys", "copy", "fnmatch", "getpass", "glob", "heapq", "json", "linecache"),
    *(
        "random",
        "shutil",
        "statistics",
        "tempfile",
        "textwrap",
        "token",
        "tokenize",
        "urllib.parse",
        "uuid",
        "webbrowser",
    ),
)


@dataclass(frozen=True, kw_only=True)
class SmallTask:
    """A rule from questions to answers.

    Args:
        name: what it is about.
        instruction: the first line of every prompt.
        items: every question with its answer.
    """

    name: str
    instruction: str
    items: Sequence[tuple[str, str]]

    @property
    def chance(self) -> float:
        """How often an answer drawn from the distinct ones is right."""
        return 1 / len({answer for _, answer in self.items})


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(first, second) for first, second in (each.split() for each in text.split(",") if each.strip())]


def _words(change: Callable[[str], str]) -> list[tuple[str, str]]:
    return [(word, change(word)) for word in _WORDS.split()]


def _with_symbols(word: str) -> str:
    """GPT-3's random insertion (section 3.9.2): a punctuation mark or a space behind each letter but the last."""
    draw = numpy_generator(0, "symbols", word)
    marks = [".!/-?,"[int(draw.integers(6))] for _ in word[1:]]
    return "".join(letter + mark for letter, mark in zip(word, [*marks, ""], strict=True))


def _successors() -> list[tuple[str, str]]:
    rows = [part.split() for part in _SEQUENCES.split(";")]
    return [(row[at], row[at + 1]) for row in rows for at in range(len(row) - 1)]


def _signatures() -> Iterator[tuple[str, str]]:
    """Functions of the standard library with one to four parameters, and the names of these."""
    for name in _MODULES:
        module = importlib.import_module(name)
        for attribute, function in sorted(vars(module).items()):
            if attribute.startswith("_") or not inspect.isfunction(function) or function.__module__ != name:
                continue
            parameters = [each.name for each in inspect.signature(function).parameters.values()]
            if 1 <= len(parameters) <= 4 and not any(each.startswith("_") for each in parameters):
                yield f"{name}.{attribute}", f"({', '.join(parameters)})"


def _tasks() -> Mapping[str, SmallTask]:
    sums = [(f"{a} + {b}", str(a + b)) for a in range(10) for b in range(10)]
    made = (
        SmallTask(name="copied words", instruction="Repeat each word.", items=_words(str)),
        SmallTask(name="reversed words", instruction="Write each word backwards.", items=_words(lambda w: w[::-1])),
        SmallTask(
            name="turned words",
            instruction="The last letters of each word stand in front; put them back.",
            items=[(word[-2:] + word[:-2], word) for word in _WORDS.split()],
        ),
        SmallTask(
            name="words with symbols",
            instruction="Remove the symbols from each word.",
            items=[(_with_symbols(word), word) for word in _WORDS.split()],
        ),
        SmallTask(name="sums of digits", instruction="Add the two numbers.", items=sums),
        SmallTask(name="what comes next", instruction="Say what comes next.", items=_successors()),
        SmallTask(name="plurals", instruction="Write the plural of each word.", items=_pairs(_PLURALS)),
        SmallTask(name="opposites", instruction="Write the opposite of each word.", items=_pairs(_OPPOSITES)),
        SmallTask(name="past tense", instruction="Write the past tense of each word.", items=_pairs(_PAST)),
        SmallTask(
            name="python parameters",
            instruction="Name the parameters of each Python function.",
            items=list(_signatures()),
        ),
    )
    return {task.name: task for task in made}


TASKS: Final[Mapping[str, SmallTask]] = _tasks()


@dataclass(frozen=True, kw_only=True)
class InContextOptions:
    """How much is asked.

    Args:
        questions: of each task.
        most: the most examples in a prompt; the curve has 0, 1, 2, 4, … up to it.
    """

    questions: int = 25
    most: int = 16

    def __post_init__(self) -> None:
        fewest = min(len(task.items) for task in TASKS.values())
        check_ranges(
            "data",
            self,
            {
                "questions": (1 <= self.questions <= fewest, f"1 to {fewest}, the items of the smallest task"),
                "most": (self.most in SHOTS and self.most < fewest, " or ".join(map(str, SHOTS[:-2]))),
            },
        )


def prompt(example: Example, shots: int) -> str:
    """The text before the answer of `example`, with its first `shots` examples."""
    shown = "".join(f"{question} => {answer}\n" for question, answer in example["shown"][:shots])
    return f"{example['instruction']}\n{shown}{example['question']} =>"


def _answer(example: Example) -> str:
    return f" {example['answer']}\n"


class InContext(Judge):
    """The judge at the top of this file, of anything that can `Generate`."""

    Options = InContextOptions

    def read(self, options: InContextOptions, context: Context) -> Data:
        examples = [
            example
            for task in TASKS.values()
            for example in _questions(task, options.questions, options.most, context.seed)
        ]
        return Data(
            name="in-context",
            splits={"test": examples},
            fingerprint=sha256_of_bytes(json.dumps(examples).encode()),
            licence="Apache-2.0",
            source="made by code; Python's names from the running standard library",
        )

    def judge(self, program: Program, held_out: Split, context: Context) -> list[Score]:
        writer = program.capability(Generate)  # type: ignore[type-abstract]
        curve: dict[int, list[_Answered]] = {}
        for shots in (each for each in SHOTS if each <= len(held_out[0]["shown"])):
            longest = max(len(writer.encode_prompt(prompt(each, shots) + _answer(each))) for each in held_out)
            if longest > writer.context:
                context.say(f"{shots} examples and more do not fit into the {writer.context} tokens that it reads")
                break
            context.say(f"asking {len(held_out)} questions with {shots} examples each")
            curve[shots] = _ask(writer, held_out, shots)
        if not curve:
            raise UsageError(
                "The questions are longer than this program can read.",
                wanted=f"at least {longest} tokens",
                got=f"a context of {writer.context}",
            )
        return [*_program_scores(held_out, curve, context.seed), *_baselines(held_out, max(curve))]


def _questions(task: SmallTask, questions: int, most: int, seed: int) -> Iterator[Example]:
    order = numpy_generator(seed, "in-context questions", task.name).permutation(len(task.items))
    for index in order[:questions]:
        question, answer = task.items[index]
        others = [item for item in task.items if item[0] != question]
        drawn = numpy_generator(seed, "in-context examples", task.name, question).permutation(len(others))[:most]
        yield {
            "task": task.name,
            "instruction": task.instruction,
            "question": question,
            "answer": answer,
            "shown": [others[each] for each in drawn],
        }


@dataclass(frozen=True)
class _Answered:
    """What a program made of one question."""

    right: bool
    bits: float
    size: int


def _ask(writer: Generate, examples: Split, shots: int) -> list[_Answered]:
    pairs = [(prompt(example, shots), _answer(example)) for example in examples]
    return [
        _Answered(
            right=all(token.token == token.top[0].token for token in tokens),
            bits=-sum(token.logprob or 0.0 for token in tokens) / math.log(2),
            size=len(answer.encode()),
        )
        for tokens, (_, answer) in zip(writer.score(pairs, top=1), pairs, strict=True)
    ]


def _program_scores(examples: Split, curve: Mapping[int, Sequence[_Answered]], seed: int) -> list[Score]:
    most = max(curve)
    scores = [_accuracy(_called("accuracy", shots), curve[shots]) for shots in sorted(curve, reverse=True)]
    if most:
        gained = paired_bootstrap([each.right for each in curve[0]], [each.right for each in curve[most]], seed=seed)
        name = f"accuracy gained by {_examples(most)}"
        scores.append(Score.estimated(name, gained, better="higher", examples=len(examples)))
    for shots in sorted(curve, reverse=True):
        rows = np.array([(each.bits, each.size) for each in curve[shots]])
        ratio = bootstrap(rows, lambda rows: float(rows[:, 0].sum() / rows[:, 1].sum()), seed=seed)
        name = _called("bits per answer byte", shots)
        scores.append(Score.estimated(name, ratio, better="lower", examples=len(examples)))
    for task in dict.fromkeys(example["task"] for example in examples):
        by_shots = {
            shots: [each for each, example in zip(answers, examples, strict=True) if example["task"] == task]
            for shots, answers in curve.items()
        }
        shares = {shots: sum(each.right for each in answers) / len(answers) for shots, answers in by_shots.items()}
        scores.append(_accuracy(f"{task}: {_called('accuracy', most)}", by_shots[most], curve=shares))
    return scores


def _accuracy(name: str, answers: Sequence[_Answered], **details: Mapping[int, float]) -> Score:
    share = wilson(sum(each.right for each in answers), len(answers))
    return Score.estimated(name, share, better="higher", examples=len(answers), details=details)


def _baselines(examples: Split, most: int) -> Iterator[Score]:
    rules: Mapping[str, Callable[[Example, int], str]] = {
        "most frequent answer shown": _most_frequent,
        "answer of the question most alike": _most_alike,
    }
    for of, rule in rules.items() if most else ():
        for shots in (each for each in reversed(SHOTS) if 0 < each <= most):
            share = wilson(sum(rule(each, shots) == each["answer"] for each in examples), len(examples))
            yield Score.estimated(_called("accuracy", shots), share, better="higher", examples=len(examples), of=of)
    chances = [TASKS[example["task"]].chance for example in examples]
    size = sum(len(_answer(example).encode()) for example in examples)
    for name, value, better in (
        ("accuracy", sum(chances) / len(chances), "higher"),
        ("bits per answer byte", -sum(map(math.log2, chances)) / size, "lower"),
    ):
        yield Score(name=name, value=value, better=better, examples=len(examples), of="chance")


def _most_frequent(example: Example, shots: int) -> str:
    """Of equally frequent ones the first shown."""
    return Counter(answer for _, answer in example["shown"][:shots]).most_common(1)[0][0]


def _most_alike(example: Example, shots: int) -> str:
    """Difflib's ratio; of equally like ones the first shown."""
    alike = [
        difflib.SequenceMatcher(None, example["question"], question, autojunk=False).ratio()
        for question, _ in example["shown"][:shots]
    ]
    return str(example["shown"][alike.index(max(alike))][1])


def _called(metric: str, shots: int) -> str:
    return f"{metric}, {_examples(shots)}"


def _examples(shots: int) -> str:
    return f"{shots} example" if shots == 1 else f"{shots} examples"
