"""Text to learn from: where it comes from, what is left out of it, and in which shares it is mixed.

    notes/                every file that is UTF-8 text, one document each; if all files are .jsonl, each line of them
    corpus.jsonl          one object a line, the text under "text" (or --set data.text=NAME)
    corpus.txt            one document
    mixture.toml          several of these, each with its share (see `mixture`); or a folder with such a file
    python-stdlib         the standard library of the Python that runs sw2, tests left out
    brown                 the Brown corpus, divided as in Bengio's paper (see `brown`), alone and not in a mixture

An example is {"text": str, "where": str}, and in a mixture "source": str.

    read → length, quality, language → exact copies → near-copies → divided → compared across the division

Reading order: `documents` (what a document is, and files), `filters`, `duplicates`, `mixture`, `contamination`,
`reading` (all of it in order), `brown` (a named text). Texts are read again whenever they are needed, so a corpus may
be larger than memory: of each document about a kilobyte is kept.
"""

from sw2.domains.language.corpus.brown import read_brown
from sw2.domains.language.corpus.documents import by_source
from sw2.domains.language.corpus.reading import CorpusOptions, read

__all__ = ["CorpusOptions", "by_source", "read", "read_brown"]
