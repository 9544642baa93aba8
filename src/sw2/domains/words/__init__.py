"""Words: from a text to a vector for each word, so that words that are used alike are near each other.

What is asked: `word-vectors`, a word, an analogy, a list or a text in, words with their cosines out; and
`word-alignment` (the folder `alignment`, which reads by itself), what a word is called in another language. The folder
`glove` has another way to learn vectors, from counts.

Shapes: V words, D dimensions, B buckets of character n-grams.

Reading order: `corpus` and `data` (text as a stream of words), `phrases`, `vocabulary` (which of them get a vector, and
their parts), `kernels.cpp` (how they are learned), `lesson`, `native` and `reference` (the same from Python, and in
numpy), `ppmi` (the baseline in closed form), `models`, `space` (nearest words, analogies), `files` (for other
toolkits), `task` (what is asked, the program), `opening` (files of others as programs), `objective`, `judges` (sets
that people judged), `presets`. Measured results, and what did not work: README.md.
"""

from sw2.core.domain import DataEntry, Domain, FormatEntry, ModelEntry, ObjectiveEntry, TaskEntry

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="words",
    summary="Programs that know which words are used alike.",
    tasks={
        "word-vectors": TaskEntry(
            target="sw2.domains.words.task:WordVectorsTask",
            recipe="sw2.domains.words.presets:recipe",
            summary="Which words are used alike?",
            models=("skip-gram", "cbow", "fasttext", "glove", "ppmi-svd"),
            data="python-docstrings",
        ),
        "word-alignment": TaskEntry(
            target="sw2.domains.words.alignment.task:WordAlignment",
            recipe="sw2.domains.words.alignment.presets:recipe",
            summary="What is this word called in another language?",
            models=("bilingual-map",),
            objectives=("self-learning", "procrustes", "adversary"),
            data="turned-words",
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
        "glove": ModelEntry(
            target="sw2.domains.words.models:WordVectors",
            summary="Products of vectors are the logarithms of how often words stand near each other.",
            source="Pennington, Socher and Manning 2014, D14-1162 of the ACL Anthology",
        ),
        "ppmi-svd": ModelEntry(
            target="sw2.domains.words.models:WordVectors",
            summary="Counts of neighbours, factorised: a baseline in closed form.",
            source="Levy, Goldberg and Dagan 2015, Q15-1016 of the ACL Anthology",
        ),
        "bilingual-map": ModelEntry(
            target="sw2.domains.words.alignment.model:BilingualMap",
            summary="A linear map for each language, and how crowded each word stands.",
            source="Artetxe et al. 2018, arXiv:1805.06297",
        ),
    },
    objectives={
        "negative-sampling": ObjectiveEntry(
            target="sw2.domains.words.objective:learn",
            config="sw2.domains.words.objective:LearnConfig",
            summary="Neighbours told from words drawn at random, or found down a tree, without locks on all cores.",
        ),
        "weighted-least-squares": ObjectiveEntry(
            target="sw2.domains.words.glove.objective:learn",
            config="sw2.domains.words.glove.objective:GloVeConfig",
            summary="Logarithms of counts of neighbours, fitted pair by pair, without locks on all cores.",
        ),
        "closed-form": ObjectiveEntry(
            target="sw2.domains.words.objective:closed_form",
            config="sw2.domains.words.objective:ClosedConfig",
            summary="One factorisation.",
        ),
        "self-learning": ObjectiveEntry(
            target="sw2.domains.words.alignment.objective:learn_by_itself",
            config="sw2.domains.words.alignment.objective:SelfLearningConfig",
            summary="Map and dictionary in turn, without a dictionary to begin with.",
        ),
        "procrustes": ObjectiveEntry(
            target="sw2.domains.words.alignment.objective:learn_from_pairs",
            config="sw2.domains.words.alignment.objective:ProcrustesConfig",
            summary="The orthogonal map that fits a dictionary, in closed form.",
        ),
        "adversary": ObjectiveEntry(
            target="sw2.domains.words.alignment.adversary:learn_by_adversary",
            config="sw2.domains.words.alignment.adversary:AdversaryConfig",
            summary="A map that deceives a discriminator, then refinements.",
        ),
    },
    runtimes={
        "word-finder": "sw2.domains.words.task:WordFinder",
        "word-translator": "sw2.domains.words.alignment.task:WordTranslator",
    },
    formats={
        "word-vectors": FormatEntry(
            target="sw2.domains.words.opening:open_vectors",
            summary="Word vectors of word2vec or GloVe.",
            suffix=".vec",
        ),
        "word-vectors-gz": FormatEntry(
            target="sw2.domains.words.opening:open_vectors",
            summary="The same through gzip.",
            suffix=".vec.gz",
        ),
        "word2vec-bin": FormatEntry(
            target="sw2.domains.words.opening:open_vectors",
            summary="Word vectors of word2vec, binary.",
            suffix=".bin",
            begins=r"\d+ \d+ *\r?\n",
        ),
        "word2vec-bin-gz": FormatEntry(
            target="sw2.domains.words.opening:open_vectors",
            summary="The same through gzip.",
            suffix=".bin.gz",
        ),
        "fasttext-vectors": FormatEntry(
            target="sw2.domains.words.opening:open_fasttext",
            summary="Word vectors of fastText, with those of n-grams.",
            suffix=".bin",
            begins=r"\xba\x16O/.{32}[\x01\x02]",  # the magic number, 8 numbers, the kind of model: without labels
        ),
    },
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
        "turned-words": DataEntry(
            task="word-alignment",
            summary="Two made-up languages of 600 words, one the other turned.",
            licence="Apache-2.0",
        ),
        "freedict-eng-ita": DataEntry(
            task="word-alignment",
            summary="FreeDict's dictionary from English to Italian, for judging.",
            licence="GPL-2.0-or-later",
            bytes=108_192,
        ),
        "freedict-eng-fra": DataEntry(
            task="word-alignment",
            summary="FreeDict's dictionary from English to French, for judging.",
            licence="GPL-2.0-or-later",
            bytes=217_484,
        ),
    },
)
