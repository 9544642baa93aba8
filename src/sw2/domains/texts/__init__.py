"""Texts: programs that say which label belongs to a text.

What is asked: `text-classification`, a text in, a label and the probability of each out.

Shapes: N texts, M their rows all together, R rows (of words and n-grams), D dimensions, K labels.

Reading order: `data` (where labelled texts come from), `prep` (what becomes of a text: rows), `bags` (the model),
`objective` (how it is learned), `descent` and `kernels.cpp` (the same in numpy and in C++; `native` calls it), `task`
(what is asked, baselines, judging), `opening` (models of fastText as programs), `presets` (which settings, and why).
Measured results, and what did not work: README.md.
"""

from sw2.core.domain import DataEntry, Domain, FormatEntry, ModelEntry, ObjectiveEntry, TaskEntry

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="texts",
    summary="Programs that say which label belongs to a text.",
    tasks={
        "text-classification": TaskEntry(
            target="sw2.domains.texts.task:TextClassification",
            recipe="sw2.domains.texts.presets:recipe",
            summary="Which label belongs to this text?",
            models=("bag-of-ngrams",),
            data="python-topics",
        )
    },
    models={
        "bag-of-ngrams": ModelEntry(
            target="sw2.domains.texts.bags:BagOfNgrams",
            summary="The mean of the vectors of words and n-grams, and a linear layer.",
            source="Joulin et al. 2016, arXiv:1607.01759",
        )
    },
    objectives={
        "text-by-text": ObjectiveEntry(
            target="sw2.domains.texts.objective:TextByText",
            config="sw2.domains.texts.objective:LearnConfig",
            summary="Descent text by text, softmax or hierarchical softmax.",
        )
    },
    runtimes={"text-classifier": "sw2.domains.texts.task:TextClassifier"},
    formats={
        "fasttext-bin": FormatEntry(
            target="sw2.domains.texts.opening:open_model",
            summary="A classifier of fastText.",
            suffix=".bin",
            begins=r"\xba\x16O/.{32}\x03",  # the magic number, 8 numbers, and the kind of model: supervised
        ),
        "fasttext-ftz": FormatEntry(
            target="sw2.domains.texts.opening:open_model",
            summary="A classifier of fastText, quantised.",
            suffix=".ftz",
        ),
    },
    data={
        "python-topics": DataEntry(
            task="text-classification",
            summary="Docstrings of Python's standard library, by what their module is about.",
            licence="PSF-2.0",
        ),
        "spam-assassin": DataEntry(
            task="text-classification",
            summary="6,046 mails with their headers, ham or spam.",
            licence="PDDL-1.0",
            bytes=20_000_000,
        ),
        "quran-languages": DataEntry(
            task="text-classification",
            summary="6,236 verses in each of ten languages: which language is it?",
            licence="CC-BY-SA-4.0",
            bytes=23_000_000,
        ),
    },
)
