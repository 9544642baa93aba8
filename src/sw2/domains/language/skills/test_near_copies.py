"""No wording of train is nearly, word by word, one that is held out.

Models are judged on wordings they have not seen. A wording that differs from one of train by a word or two has been
seen, so of each kind of wording the most alike one of train is looked for. How alike two are is the ratio of
`difflib` over their words in lower case, a slot ("{name}", "<part>") being one word. Very short wordings are left out,
because people say "card, please". Arithmetic holds out whole stories and shapes of expressions, not wordings.
"""

import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from sw2.domains.language.skills import records_varied
from sw2.domains.language.skills.orderbot.menus import hand_menus
from sw2.domains.language.skills.orderbot.voices import HANDWRITTEN, families, handwritten_orders

MOST_ALIKE = 0.7
FEWEST_WORDS = 4
SKILLS = Path(records_varied.__file__).parent
SLOT = r"\{\w*\}|<[a-z][a-z_]*>|<-?\d+-\d+>"
Kinds = Mapping[str, Sequence[str]]


def words(text: str) -> list[str]:
    return re.findall(rf"{SLOT}|[\w']+", text.lower())


def copies(held: Kinds, train: Kinds, most: float) -> Iterator[tuple[float, str, str, str]]:
    """Wordings of `held` and `train` of the same kind that are more alike than `most`: the ratio, kind and both."""
    for kind, texts in held.items():
        known = [(words(text), text) for text in train[kind]]
        for text in texts:
            own = words(text)
            if sum(not re.fullmatch(SLOT, word) for word in own) < FEWEST_WORDS:
                continue
            matcher = SequenceMatcher(None, autojunk=False)
            matcher.set_seq2(own)
            for other, theirs in known:
                matcher.set_seq1(other)
                # The quick ratio is never below the ratio.
                if matcher.quick_ratio() > most and (ratio := matcher.ratio()) > most:
                    yield ratio, kind, text, theirs


def read(name: str) -> Mapping:
    return tomllib.loads((SKILLS / name).read_text("utf-8"))


def flat(value) -> Iterator[str]:
    """The texts in lists of lists."""
    if isinstance(value, str):
        yield value
    else:
        for each in value:
            yield from flat(each)


def records() -> tuple[Kinds, Kinds]:
    def kinds(section):
        found = {"requests": [*section["requests"], *section.get("listed", ())]}
        for part in ("review", "story", "note"):
            found |= {f"{part}.{kind}": list(flat(said)) for kind, said in section[part].items() if kind != "things"}
        return found

    held = read("records.toml")
    validation, test, train = (kinds(each) for each in (held["validation"], held["test"], records_varied.wordings()))
    # A part of one word may stand for several that are held out ("one JSON object").
    chance = random.Random(0)
    for texts in train.values():
        texts += [records_varied.grown(text, chance) for text in texts if "<" in text for _ in range(8)]
    return {kind: [*validation[kind], *test[kind]] for kind in test}, train


def documentation() -> tuple[Kinds, Kinds]:
    held, train = read("documentation.toml"), read("documentation_train.toml")
    layouts = [each.replace("{tag}", tag) for each in train["layouts"] for tag in train["tags"]]
    both = {kind: [*held["validation"][kind], *held["test"][kind]] for kind in held["test"]}
    return both, {**train["wordings"], "layouts": layouts}


def orderbot() -> tuple[Kinds, Kinds]:
    def kinds(names):
        found: dict[str, list[str]] = {}
        for name in names:
            for kind, said in read(f"orderbot/wordings/{name}.toml").items():
                if isinstance(said, list) and kind not in ("one", "many"):
                    found.setdefault(kind, []).extend(said)
        return found

    held = kinds([*families("validation"), *families("test"), HANDWRITTEN])
    held["open"] += [said for menu in hand_menus() for said, _ in handwritten_orders(menu)]
    return held, kinds(families("train"))


@pytest.mark.parametrize("skill", [records, documentation, orderbot])
def test_no_wording_of_train_is_nearly_one_that_is_held_out(skill):
    assert not list(copies(*skill(), most=MOST_ALIKE))
