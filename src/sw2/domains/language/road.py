"""The chain `assistant`: from text to a program that converses, and what each step of the way brought.

    pretrain -> sft -> reward, and from sft each way to prefer answers: dpo, grpo, ppo
                sft-more, beside each of these: as many minutes on the conversations that sft learned from

The stages are those of Ouyang et al. 2022, https://arxiv.org/abs/2203.02155. With `--from` there is no `pretrain`, and
`sft` is compared with the program that it starts from.

Notable
- Reading comes from the standard library's sources: what a small network takes from them is where to look (brackets,
  names and numbers that come again), which a call of a tool needs too.
- Pairs of answers are those of the named data set `preferences`, of the skills in question; conversations of one's own
  bring theirs ("rejected"), and have no stage of preferring without.
- There are as many conversations as the minutes can read about once: a network that sees a few thousand again and
  again learns them by heart, and copies no number it has not seen. From nothing digits are tokens of their own.
- Answers are tried to questions that sft did not learn from.
- Everybody answers the same held-out questions: those of the chain's data.

What it does not do: choose the best stage. The program is that of the last one, whatever it gained; a choice by
held-out scores would spoil them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sw2.core.domain import ChainRequest, Stage
from sw2.domains.language import DOMAIN
from sw2.domains.language.chat.conversations import ChatOptions
from sw2.domains.language.chat.named import conversations, is_named
from sw2.domains.language.skills.checking import SKILLS

__all__ = ["stages"]

_READ: Final = "python-stdlib"
_PAIRS: Final = "preferences"
_COUNTS: Final = {
    "tiny": ("data.train=300", "data.validation=20", "data.test=20"),
    "small": ("data.validation=100", "data.test=200"),
    "full": ("data.validation=100", "data.test=200"),
}
"""Of named conversations; held-out ones are as many as are answered."""
_READING: Final = {"tiny": ("data.longest=4000", "data.test_share=0"), "small": (), "full": ()}
"""How the text to begin with is read; seconds are too short to judge what was learned of it."""


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A way to prefer answers: what examples must have, which programs it uses, and one line for people."""

    why: str
    needs: str
    uses: Mapping[str, str] = field(default_factory=dict)


# In the order in which they are learned, each from `sft`, as far as the task `chat` has them.
_WAYS: Final[Mapping[str, _Way]] = {
    "dpo": _Way(why="Prefers the better of two answers.", needs="rejected"),
    "ppo": _Way(
        why="Tries answers, and is drawn to those that the reward model likes.",
        needs="rejected",
        uses={"reward": "reward"},
    ),
    "grpo": _Way(why="Tries several answers to a question, and is drawn to the right ones.", needs="check"),
}


_CONTEXT: Final = "model.context=2048"
"""Conversations are longer than what is read at first; from weights, theirs is kept."""
_DIGITS: Final = "prep.digits=single"
_READ_A_MINUTE: Final = {"from nothing": 2000, "from weights": 100}
_LEAST, _MOST = 4000, 20_000
"""Conversations to learn from by name: for each of the chain's minutes, and bounds; 20,000 take seconds to make, where
they are sums, to a minute, where they are of all skills."""


def stages(request: ChainRequest) -> Sequence[Stage]:
    """The stages of `request`.

    Raises:
        DataError: the conversations cannot be read.
    """
    own = not is_named(request.data)
    judged = () if own else _COUNTS[request.preset]
    taught = (*judged, *_many(request))
    sft = Stage(
        name="sft",
        task="chat",
        data=request.data,
        share=6,
        why="Learns to answer, from conversations.",
        start="" if request.parent else "pretrain",
        settings=taught if request.parent else (*taught, _CONTEXT),
    )
    found = [sft]
    if not request.parent:
        reads = Stage(
            name="pretrain",
            task="text-generation",
            data=_READ,
            share=2,
            why="Reads, and learns what comes next.",
            settings=(*_READING[request.preset], _DIGITS),
        )
        found = [reads, sft]
    has = _own(request.data) if own else {"rejected"} if request.data == _PAIRS else {"check", "rejected"}
    data, settings = (request.data, judged) if "rejected" in has and own else (_PAIRS, _pairs_of(request))
    if "rejected" in has:
        found.append(
            Stage(
                name="reward",
                task="reward-modeling",
                data=data,
                share=1,
                why="Learns which of two answers is better.",
                start="sft",
                settings=settings,
            )
        )
    there = DOMAIN.tasks["chat"].objectives
    # What sft learned from it answers rightly, and who is always right learns nothing from trying.
    practice = () if own or request.preset == "tiny" else (f"data.skip={_count(request)}",)
    ways = {name: way for name, way in _WAYS.items() if name in there and way.needs in has}
    for name, way in ways.items():
        on_pairs = way.needs == "rejected" and not way.uses
        found.append(
            Stage(
                name=name,
                task="chat",
                objective=name,
                data=data if on_pairs else request.data,
                share=1,
                why=way.why,
                start="sft",
                uses=way.uses,
                # Those of other data are judged by the questions of the chain alone.
                settings=(*settings, "data.test=0") if on_pairs and data != request.data else (*judged, *practice),
            )
        )
    if ways:
        more = "As many minutes more of what sft learned from."
        found.append(replace(sft, name="sft-more", start="sft", share=1, why=more, beside=tuple(ways), settings=taught))
    return found


def _many(request: ChainRequest) -> Sequence[str]:
    """A setting for how many named conversations there are to learn from, where the default is too few."""
    return (f"data.train={_count(request)}",) if is_named(request.data) and request.preset != "tiny" else ()


def _count(request: ChainRequest) -> int:
    a_minute = _READ_A_MINUTE["from weights" if request.parent else "from nothing"]
    return min(_MOST, max(_LEAST, round((request.minutes or 0) * a_minute)))


def _pairs_of(request: ChainRequest) -> Sequence[str]:
    """Settings for the pairs that belong to named conversations."""
    skill = (f"data.shares={request.data}=1",) if request.data in SKILLS else ()
    return (*skill, *_COUNTS[request.preset])


def _own(data: str) -> set[str]:
    """Which of "check" and "rejected" the conversations at a path have."""
    return {
        key
        for example in conversations(data, ChatOptions()).split("train")
        for key in ("check", "rejected")
        if key in example
    }
