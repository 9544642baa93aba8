"""Words: from a text to a vector for each word, so that words that are used alike are near each other.

What is asked: `word-vectors`, a word, an analogy, a list or a text in, words with their cosines out.

Shapes: V words, D dimensions, B buckets of character n-grams.

Reading order: `corpus` and `data` (text as a stream of words), `phrases`, `vocabulary` (which of them get a vector, and
their parts), `kernels.cpp` (how they are learned), `lesson`, `native` and `reference` (the same from Python, and in
numpy), `ppmi` (the baseline in closed form), `models`, `space` (nearest words, analogies), `task` (what is asked, the
program), `objective`, `judges` (sets that people judged), `presets`. Measured results, and what did not work:
README.md.
"""

from sw2.core.domain import DataEntry, Domain, ModelEntry, ObjectiveEntry, TaskEntry

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="words",
    summary="Programs that know which words are used alike.",
    tasks={
        "word-vectors": TaskEntry(
            target="sw2.domains.words.task:WordVectorsTask",
            recipe="sw2.domains.words.presets:recipe",
            summary="Which words are used alike?",
            models=("skip-gram", "cbow", "fasttext", "ppmi-svd"),
            data="python-docstrings",
        ),
    },
    models={
        "skip-gram": ModelEntry(
            target="sw2.domains.words.models:WordVectors",
            summary="Each word tells its neighbours from words drawn at random.",
            source="Mikolov et al. 2013, arXiv:1310.4546",
        ),
        "cbow": ModelEntry(
            target="sw2.domains.words.models:WordVectors",
            summary="The mean of the neighbours tells a word from words drawn at random.",
            source="Mikolov et al. 2013, arXiv:1301.3781",
        ),
        "fasttext": ModelEntry(
            target="sw2.domains.words.models:SubwordVectors",
            summary="Skip-gram of words and their character n-grams: vectors for words never seen.",
            source="Bojanowski et al. 2017, arXiv:1607.04606",
        ),
        "ppmi-svd": ModelEntry(
            target="sw2.domains.words.models:WordVectors",
            summary="Counts of neighbours, factorised: a baseline in closed form.",
            source="Levy, Goldberg and Dagan 2015, Q15-1016 of the ACL Anthology",
        ),
    },
    objectives={
        "negative-sampling": ObjectiveEntry(
            target="sw2.domains.words.objective:learn",
            config="sw2.domains.words.objective:LearnConfig",
            summary="Neighbours told from words drawn at random, without locks on all cores.",
        ),
        "closed-form": ObjectiveEntry(
            target="sw2.domains.words.objective:closed_form",
            config="sw2.domains.words.objective:ClosedConfig",
            summary="One factorisation.",
        ),
    },
    runtimes={"word-finder": "sw2.domains.words.task:WordFinder"},
    data={
        "python-docstrings": DataEntry(
            task="word-vectors",
            summary="What Python's library says of itself, a paragraph a line.",
            licence="PSF-2.0",
        ),
        "questions-words": DataEntry(
            task="word-vectors",
            summary="19,544 analogies in 14 sections.",
            licence="LGPL-2.1",
            bytes=28_000_000,
            judge="sw2.domains.words.judges:Analogies",
        ),
        "wordsim353": DataEntry(
            task="word-vectors",
            summary="353 pairs of words, how related people find them.",
            licence="LGPL-2.1",
            bytes=28_000_000,
            judge="sw2.domains.words.judges:WordSim",
        ),
        "simlex999": DataEntry(
            task="word-vectors",
            summary="999 pairs of words, how alike people find them.",
            licence="LGPL-2.1",
            bytes=28_000_000,
            judge="sw2.domains.words.judges:SimLex",
        ),
    },
)
