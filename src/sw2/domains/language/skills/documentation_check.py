"""Whether an answer to a question about documentation is right, by the words of the passage.

Right is, of sentences: most of the key sentence's words, little else, no word or number from nowhere, no lost "not", no
opposite, nearer to the key sentence than to one about another entry. Of names, arguments and defaults: exactly those.
Where the passage holds no answer, right is to say so, in one of many ways; elsewhere that is wrong.

    any answer    no answer, says that the passage holds no answer, answers what the passage does not say,
                  copies or rambles
    sentences     misses the answer, turns the answer round, not in the passage, contradicts, answers about another
    others        does not name it, names another, wrong default, names another default, missing argument,
                  invented argument

It knows of an example only its facts, example["check"], as documentation.py writes them; in their passage entries are
separated by empty lines.

What it does not do: understand. A paraphrase with other words than the passage's counts as wrong, and a false sentence
made of the passage's own words can pass; README.md says how often people disagree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sw2.domains.language.skills.basis import Example, Message, Verdict, answer_of, numbers
from sw2.domains.language.skills.documentation_passages import sentences

__all__ = ["check"]

_REFUSES: Final = re.compile(
    r"(?i)\b(?:passage|text|documentation|manual|it|this)\b[^.]{0,30}\b(?:does not|doesn't|do not|didn't|did not)\b"
    r"[^.]{0,20}\b(?:say|tell|mention|contain|hold|cover|describe|state|explain|include|answer|provide|specify)"
    r"|\bno (?:answer|information|mention)\b|\bnot (?:in|mentioned|found|stated|given|described|covered)\b"
    r"|\b(?:cannot|can't|could not|couldn't) (?:find|tell|say|answer)\b|\bi (?:do not|don't) know\b"
)
_POLAR: Final = frozenset({
    "not", "no", "never", "none", "false", "true", "cannot", "without", "only", "always", "unless", "except", "neither",
})  # fmt: skip
_COUNTING: Final = ("all", "first", "last", "same", "single", "both", "second", "every", "each", "nothing")
_OPPOSITES: Final = [
    {"first", "last"}, {"open", "close"}, {"before", "after"}, {"minimum", "maximum"}, {"smallest", "largest"},
    {"greater", "less"}, {"start", "end"}, {"left", "right"}, {"upper", "lower"}, {"uppercase", "lowercase"},
    {"add", "remove"}, {"read", "write"}, {"increase", "decrease"}, {"true", "false"}, {"with", "without"},
    {"input", "output"}, {"encode", "decode"}, {"all", "none"}, {"old", "new"}, {"success", "failure"},
    {"enable", "disable"}, {"client", "server"}, {"source", "destination"}, {"begin", "end"}, {"push", "pop"},
    {"always", "never"}, {"oldest", "newest"}, {"empty", "full"}, {"forward", "backward"}, {"key", "value"},
    {"load", "save"}, {"create", "delete"}, {"set", "get"}, {"lock", "unlock"}, {"send", "receive"},
    {"parent", "child"}, {"row", "column"}, {"width", "height"}, {"closest", "furthest"},
    {"different", "same"}, {"one", "all"},
]  # fmt: skip
# Words that carry no meaning.
_EMPTY: Final = frozenset({
    "a", "an", "the", "of", "to", "in", "on", "for", "with", "by", "at", "as", "is", "are", "be", "it", "its", "this",
    "that", "these", "those", "and", "or", "from", "which", "will", "can", "may", "you", "i", "we", "they", "into",
    "if", "when", "then", "than", "there", "has", "have", "had", "do", "does", "use", "used", "using",
})  # fmt: skip


def check(example: Example, messages: Sequence[Message]) -> Verdict:
    """Judge an answer by the words of the passage."""
    facts = example["check"]
    answer, kind = answer_of(messages), facts["kind"]
    if not answer:
        return Verdict(False, 0.0, ("no answer",))
    refuses = _REFUSES.search(answer) is not None
    if kind == "lacking":
        if refuses and len(answer.split()) <= 40:
            return Verdict(True, 1.0)
        return Verdict(False, 0.0, ("answers what the passage does not say",))
    if refuses and not _REFUSES.search(facts["answer"]):
        return Verdict(False, 0.0, ("says that the passage holds no answer",))
    if len(answer.split()) > 2 * len(facts["answer"].split()) + 15:
        return Verdict(False, 0.0, ("copies or rambles",))
    judge = {"unnamed": _name, "default": _default, "arguments": _arguments}.get(kind, _sentence)
    score, flaws = judge(facts, answer)
    return Verdict(not flaws, score, tuple(flaws))


def _name(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    def named(name: str) -> bool:
        last = name if " " in name else name.rpartition(".")[2]
        return re.search(rf"(?<![\w]){re.escape(last)}(?![\w])", answer) is not None

    flaws = [] if named(facts["name"]) else ["does not name it"]
    prefix = facts["name"].rpartition(".")[0].split(".")
    others = [
        name
        for name, _ in facts["others"]
        if name.rpartition(".")[2] not in (*prefix, facts["name"].rpartition(".")[2])
    ]
    flaws += [f"names another: {name}" for name in others if named(name)]
    return float(not flaws), flaws


def _default(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    def plain(text: str) -> str:
        return re.sub(r"[\s`'\"]", "", text)

    literals = re.findall(r"`[^`]+`|'[^']*'|\"[^\"]*\"|(?<![\w.])-?\d+(?:\.\d+)?|\b(?:True|False|None)\b", answer)
    named = {facts["argument"], facts["name"], facts["name"].rpartition(".")[2], ""}
    said = {plain(each) for each in literals} - named or {plain(answer.rstrip(".").split()[-1])}
    value = plain(facts["value"])
    if value not in said:
        return 0.0, ["wrong default"]
    return (0.0, ["names another default"]) if said - {value} else (1.0, [])


def _arguments(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    wanted = set(facts["arguments"])
    said = {each.strip("*") for each in re.findall(r"`([^`]+)`", answer)}
    said = {part.strip("* ") for each in said for part in re.split(r"[,()]|=[^,)]*", each)}
    if not said & wanted:
        said = {word for word in re.findall(r"\w+", answer) if "_" in word or word in wanted}
    said -= {facts["name"], facts["name"].rpartition(".")[2], "", "self"} - wanted
    score = len(said & wanted) / len(said | wanted)
    flaws = [f"missing argument: {each}" for each in sorted(wanted - said)]
    return score, flaws + [f"invented argument: {each}" for each in sorted(said - wanted)]


def _sentence(facts: Mapping[str, Any], answer: str) -> tuple[float, list[str]]:
    own = next(
        (each for each in facts["passage"].split("\n\n") if re.match(rf"(# )?{re.escape(facts['name'])}", each)), ""
    )
    key, main, said = facts["answer"], _main(facts["answer"]), _words(answer)
    near = max(sentences(answer), key=lambda each: _f1(_words(each), _words(key)))
    score = _f1(said, _words(key))
    flaws = []
    known = set(_words(own)) | set(_words(facts["name"].replace(".", " ")))
    nowhere = [word for word in said if word not in known]
    missing = sum((_words(main) - said).values())
    # A word of the key replaced by one that stands nowhere is another statement; so are its words in another order.
    if missing > 0.4 * sum(_words(main).values()) or (missing and nowhere):
        flaws.append("misses the answer")
    elif _in_order(main, answer) < 0.7:
        flaws.append("turns the answer round")
    strange = [word for word in re.findall(r"(?<=[a-z,] )[A-Z]\w+", answer) if not _has(own, word)]
    strange += [str(value) for value in numbers(answer) if value not in numbers(own)]
    if len(nowhere) > 0.34 * len(said) or strange:
        flaws.append(f"not in the passage: {', '.join((strange or nowhere)[:3])}")
    told = key if sum((said & _words(key)).values()) > 0.75 * sum(_words(key).values()) else main
    lost = (_polar(told) - _polar(near)) | (_polar(near) - _polar(key)) | (_polar(answer) - _polar(own))
    lost |= {word for word in _COUNTING if _has(near, word) and not _has(own, word)}
    if lost:
        flaws.append(f"contradicts: {', '.join(sorted(lost))}")
    flaws += [
        f"contradicts: {word} for {other}"
        for pair in _OPPOSITES
        for word in pair
        for other in pair - {word}
        if _has(answer, word) and not _has(key, word) and _has(key, other) and not _has(answer, other)
    ]
    for name, other in facts["others"]:
        if _f1(said, _words(other)) > score:
            flaws.append(f"answers about another: {name}")
    return (score if not flaws else min(score, 0.5)), flaws


def _main(key: str) -> str:
    """The first clause of a sentence, if it says something by itself."""
    for cut in re.finditer(r"[;(]|,? or None\b|, ", key):
        if sum(_words(key[: cut.start()]).values()) >= 3:
            return key[: cut.start()]
    return key


def _in_order(key: str, answer: str) -> float:
    """Of the key's words that the answer has, the share that stands in the key's order (longest common subsequence)."""
    wanted, said = list(_stems(key)), list(_stems(answer))
    row = [0] * (len(said) + 1)
    for word in wanted:
        before = 0
        for at, other in enumerate(said, start=1):
            before, row[at] = row[at], before + 1 if word == other else max(row[at], row[at - 1])
    return row[-1] / max(1, sum((Counter(wanted) & Counter(said)).values()))


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?i)\b{word}s?\b", text) is not None


def _polar(text: str) -> frozenset[str]:
    text = re.sub(r"(?i)n't\b|\bcannot\b", " not ", text)
    return _POLAR & set(re.findall(r"[a-z]+", text.lower()))


def _words(text: str) -> Counter[str]:
    """How often each word that carries meaning stands there."""
    return Counter(_stems(text))


def _stems(text: str) -> Iterator[str]:
    """The words that carry meaning, in order, their endings cut."""
    text = re.sub(r"n't\b", " not", text.lower()).replace("cannot", "can not")
    for word in re.findall(r"[a-z0-9_]+", re.sub(r"\b(?:gets?|gives?)\b", "return", text)):
        if word not in _EMPTY:
            yield re.sub(r"(?<=\w{3})(?:ing|ies|ied|es|ed|e|s|y)$", "", word)


def _f1(some: Counter[str], other: Counter[str]) -> float:
    both = sum((some & other).values())
    return 2 * both / (sum(some.values()) + sum(other.values())) if both else 0.0
