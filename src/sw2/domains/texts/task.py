"""Text classification: which label belongs to this text?

    Data → TextPrep (words and n-grams as rows) → the model's scores [N, K] → {"label", "probabilities"}

Judged by accuracy and by macro F1 (the mean of the labels' F1: rare ones count as much as frequent ones). Baselines on
the same texts: always the most frequent label, and naive Bayes over words (multinomial, add-one; Manning et al. 2008,
chapter 13).

Shapes: N texts, M rows of all of them, K labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import DataError, ProgramError
from sw2.core.capabilities import Classified, Classify
from sw2.core.data import Data, Example, Split
from sw2.core.kinds import Kind
from sw2.core.model import Model
from sw2.core.program import Answer, Program, Runtime
from sw2.core.task import CheckReport, Context, Score, Task
from sw2.domains.texts.bags import BagOfNgrams, Bags
from sw2.domains.texts.data import TextOptions, read
from sw2.domains.texts.prep import PrepConfig, TextPrep, fit
from sw2.parts.formats.fasttext import END_OF_LINE, tokens
from sw2.parts.metrics.classification import confusion_matrix, log_loss, macro_f1, per_class
from sw2.parts.metrics.intervals import bootstrap, wilson

__all__ = ["TextClassification", "TextClassifier"]


@final
class TextClassifier(Runtime, Classify):
    """Answers with the likeliest label and the probability of each."""

    name = "text-classifier"
    Prep = TextPrep

    def __init__(self, nets: Mapping[str, Model], prep: TextPrep, uses: Mapping[str, Program]) -> None:
        del uses
        net = nets["classifier"]
        if not isinstance(net, BagOfNgrams) or (net.config.rows, net.config.labels) != (
            prep.row_count,
            len(prep.labels),
        ):
            raise ProgramError(
                "The network does not belong to this dictionary.",
                wanted=f"{prep.row_count} rows and {len(prep.labels)} labels",
                got=net.config,
            )
        self.prep = prep
        self.model = prep.model(net.input.detach().numpy(), net.output.detach().numpy(), net.config.loss)

    @property
    def labels(self) -> Sequence[str]:
        return self.prep.labels

    def classify(self, inputs: Sequence[Any]) -> Classified:
        bags = self.prep.bags([_text(each) for each in inputs])
        features = [self.model.mean(bags[text]) for text in range(len(bags))]
        return Classified(
            probabilities=self._probabilities(bags),
            features=np.stack(features) if features else np.zeros((0, self.model.arguments.dimensions), np.float32),
        )

    def probabilities(self, inputs: Sequence[Any]) -> NDArray[np.float32]:
        """float32 [N, K] for raw texts."""
        return self._probabilities(self.prep.bags([_text(each) for each in inputs]))

    def _probabilities(self, bags: Bags) -> NDArray[np.float32]:
        rows = [self.model.probabilities(bags[text]) for text in range(len(bags))]
        return np.array(rows, np.float32).reshape(len(rows), len(self.prep.labels))

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [
            {
                "label": self.prep.labels[int(row.argmax())],
                "probabilities": {label: float(p) for label, p in zip(self.prep.labels, row, strict=True)},
            }
            for row in self.probabilities(inputs)
        ]


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise DataError("This is no text.", wanted="a string", got=type(raw).__name__)
    return raw


@final
class TextClassification(Task):
    """The task at the top of this file."""

    name = "text-classification"
    inputs = {"text": Kind("text")}
    outputs = {"label": Kind("label"), "probabilities": Kind("distribution", "float32", ("labels",))}
    metric = "accuracy"
    runtime = TextClassifier.name
    Options = TextOptions

    def read(self, source: str, options: TextOptions, context: Context) -> Data:
        return read(source, options, context.confirm)

    def metadata(self, example: Example) -> Mapping[str, str | int | float]:
        return {"label": example["label"]}

    def check(self, data: Data) -> CheckReport:
        train = data.split("train")
        counts = Counter(example["label"] for example in train)
        facts: dict[str, Any] = {name: f"{len(split)} texts" for name, split in data.splits.items()}
        facts["labels"] = f"{len(counts)}: " + ", ".join(list(counts)[:12]) + (" …" if len(counts) > 12 else "")
        facts["words of a text"] = f"{_typical(train):.0f} in the middle one"
        notes = [f"skipped {row.where}: {row.why}" for row in data.rejected[:20]]
        if len(data.rejected) > 20:
            notes.append(f"skipped {len(data.rejected) - 20} more")
        (often, most), (rare, least) = counts.most_common()[0], counts.most_common()[-1]
        if most > 20 * least:
            notes.append(f"'{often}' has {most} texts and '{rare}' only {least}: accuracy will hide '{rare}'")
        seen = {example["text"] for example in train}
        if copies := sum(example["text"] in seen for example in data.splits.get("test", ())):
            notes.append(f"{copies} test texts are also in the training split")
        return CheckReport(facts=facts, notes=notes)

    def prepare(self, train: Split, config: PrepConfig) -> TextPrep:
        return fit([example["text"] for example in train], [example["label"] for example in train], config)

    def baselines(self, data: Data, prep: TextPrep, context: Context) -> Sequence[Score]:  # type: ignore[override]
        train, test = data.split("train"), data.split("test")
        target_N = _targets(test, prep.number, "the test split")
        often = Counter(example["label"] for example in train).most_common(1)[0][0]
        constant = np.full(len(test), prep.number[often])
        bayes = _naive_bayes(train, test, prep)
        return [
            *_scores(constant, target_N, prep.labels, "most frequent label", context.seed),
            *_scores(bayes, target_N, prep.labels, "naive Bayes over words", context.seed),
        ]

    def judge(self, program: Program, held_out: Split, context: Context) -> Sequence[Score]:
        runtime = program.capability(TextClassifier)
        target_N = _targets(held_out, runtime.prep.number, program.path)
        p_NK = runtime.probabilities([example["text"] for example in held_out])
        found_N = p_NK.argmax(1)
        answers = [
            (f"{example['name']}: {example['label']}", runtime.labels[found])
            for example, found in zip(held_out, found_N.tolist(), strict=True)
        ]
        scores = _scores(found_N, target_N, runtime.labels, "program", context.seed, answers)
        sums = p_NK.sum(1, keepdims=True)
        loss = float(log_loss(p_NK / np.where(sums > 0, sums, 1), target_N))
        return [*scores, Score(name="log loss", value=loss, better="lower", examples=len(target_N))]


def _typical(examples: Split) -> float:
    """The median of the numbers of words."""
    return float(np.median([len(tokens(example["text"])) for example in examples]))


def _targets(examples: Split, number: Mapping[str, int], where: object) -> NDArray[np.int64]:
    if unknown := {example["label"] for example in examples} - set(number):
        raise DataError(
            "The data has labels that this program does not know.",
            where=where,
            wanted=", ".join(list(number)[:20]),
            got=", ".join(sorted(unknown)[:10]),
        )
    return np.array([number[example["label"]] for example in examples], np.int64)


def _scores(
    found_N: NDArray[np.int64],
    target_N: NDArray[np.int64],
    labels: Sequence[str],
    of: str,
    seed: int,
    answers: Sequence[tuple[str, str]] = (),
) -> list[Score]:
    """Accuracy with Wilson's interval, and macro F1 with that of a bootstrap over texts."""
    n, right_N = len(target_N), found_N == target_N
    sure = wilson(int(right_N.sum()), n)
    confusion_KK = confusion_matrix(found_N, target_N, len(labels))

    def f1(pairs_N2: NDArray[np.int64]) -> float:
        return macro_f1(confusion_matrix(pairs_N2[:, 0], pairs_N2[:, 1], len(labels)))

    spread = bootstrap(np.stack([found_N, target_N], 1), f1, seed=seed)
    each = per_class(confusion_KK)
    details = {"labels": list(labels), "confusion": confusion_KK.tolist(), "cases": right_N.astype(float).tolist()}
    return [
        Score.estimated("accuracy", sure, better="higher", examples=n, of=of, details=details, answers=answers),
        Score.estimated(
            "macro F1", spread, better="higher", examples=n, of=of,
            details={"F1": dict(zip(labels, each.f1_C.tolist(), strict=True))},
        ),
    ]  # fmt: skip


def _naive_bayes(train: Split, test: Split, prep: TextPrep) -> NDArray[np.int64]:
    """The likeliest labels [N] by the counts of known words in the training texts, each with one more."""
    words, labels = prep.dictionary.words, len(prep.labels)
    target_N = _targets(train, prep.number, "the training split")
    row_M, text_M = _words(prep, [example["text"] for example in train])
    seen_WK = np.bincount(row_M * labels + target_N[text_M], minlength=len(words) * labels).reshape(-1, labels) + 1
    log_WK = np.log(seen_WK / seen_WK.sum(0))
    texts_K = np.bincount(target_N, minlength=labels)
    row_M, text_M = _words(prep, [example["text"] for example in test])
    score_KN = [np.bincount(text_M, log_WK[row_M, label], len(test)) for label in range(labels)]
    found: NDArray[np.int64] = (np.array(score_KN).T + np.log(np.maximum(texts_K, 0.5) / len(train))).argmax(1)
    return found


def _words(prep: TextPrep, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The known words of texts one after the other, without n-grams and ends of lines; and whose each is."""
    bags = prep.bags(texts)
    row_M, text_M = bags.rows.astype(np.int64), np.repeat(np.arange(len(texts)), np.diff(bags.starts))
    words = prep.dictionary.words
    end = words.index(END_OF_LINE) if END_OF_LINE in words else -1
    is_word_M = (row_M < len(words)) & (row_M != end)
    return row_M[is_word_M], text_M[is_word_M]
