"""Named conversations: the skills of an assistant, alone or mixed, made on the spot; see `skills`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sw2.base.errors import UsageError
from sw2.base.names import nearest, unknown
from sw2.core.data import Data
from sw2.domains.language.chat.conversations import ChatOptions, conversation, gathered, read
from sw2.domains.language.skills.checking import SKILLS, DatasetOptions, dataset

__all__ = ["NAMED", "conversations", "is_named", "named"]

NAMED: Final = (*SKILLS, "assistant", "preferences")


def is_named(source: str) -> bool:
    """Whether `source` is one of these and no path; a path goes before a name."""
    return source in NAMED and not Path(source).exists()


def conversations(source: str, options: ChatOptions) -> Data:
    """The data set of that name, or the conversations at that path.

    Raises:
        DataError: as `conversations.read`.
        UnknownName: there is nothing there, and a name that is nearly that.
    """
    if is_named(source):
        return named(source, options)
    if not Path(source).exists() and nearest(source, NAMED):
        raise unknown("data set or file", source, NAMED)
    return read(source, options)


def named(name: str, options: ChatOptions) -> Data:
    """The data set of that name; the options that divide others have no say, it is divided by its matter.

    Raises:
        UsageError: the shares are none.
    """
    wanted = DatasetOptions(
        train=options.train,
        skip=options.skip,
        validation=options.validation,
        test=options.test,
        seed=options.split_seed,
        shares=_shares(options.shares),
    )
    rows = {
        split: [conversation(example, f"{split} {number}") for number, example in enumerate(examples)]
        for split, examples in dataset(name, wanted).items()
    }
    licence = "PSF-2.0" if name in ("documentation", "assistant") else "Apache-2.0"
    return gathered(rows, name, "made by sw2", options, licence)


def _shares(text: str) -> dict[str, float]:
    """The mapping that "orderbot=2,records=1" says."""
    shares = {}
    for part in filter(None, map(str.strip, text.split(","))):
        skill, _, share = part.partition("=")
        try:
            shares[skill.strip()] = float(share)
        except ValueError as error:
            raise UsageError(
                "A share is written SKILL=NUMBER.", where="data.shares", wanted="such as orderbot=2,records=1", got=part
            ) from error
    return shares
