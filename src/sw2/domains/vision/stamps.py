"""Tux Paint's stamps: where they come from, and which kinds of things they show.

    animals/birds/owl.png -> the kind "bird", the family "animals/birds/owl"

A stamp is a drawing or a cut-out photograph with a caption, sorted by its authors into folders. Kinds are made of these
folders alone, no stamp was moved by hand: those with at least 30 pictures in them, small ones that are alike put
together. Left out are folders that hold things of every kind (seasonal), that are too small (food/vegetables, clothes,
space), and letters and numbers but those shown by a hand.

A family is what may be one thing twice: names that are the same but for numbers and the word mirror.

Source: https://tuxpaint.org/stamps/ (GPL-2, of many authors), in the form that Debian distributes.

Not here: captions and sounds, which are in the package too; stamps that are vector graphics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from sw2.base.packages import DebianFolder

__all__ = ["KINDS", "STAMPS", "family", "kind"]

STAMPS: Final = DebianFolder(
    title="Tux Paint's stamps",
    package="tuxpaint-stamps-default",
    folder="usr/share/tuxpaint/stamps",
    suffix=".png",
    sha256="217aa4eaabae43a31d18ca1c0baf2a7e16d5563afc5c0e96ebdcfac241136e81",
    size="161 MB",
    licence="GPL-2",
)

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "bird": ("animals/birds",),
    "building": ("town/houses", "town/cartoon", "town/monuments"),
    "fruit": ("food/fruit", "food/nuts"),
    "hand sign": ("symbols/alphabets/asl",),
    "household": ("household",),
    "mammal": ("animals/mammals", "animals/marsupials"),
    "money": ("symbols/money",),
    "plant": ("plants",),
    "sign": ("town/roadsigns", "town/flags", "symbols/shapes"),
    "small animal": (
        "animals/insects",
        "animals/fish",
        "animals/shellfish",
        "animals/amphibians",
        "animals/lizards",
    ),
    "vehicle": ("vehicles", "military/vehicles"),
}


def kind(path: PurePath) -> str | None:
    """The kind of a stamp, by its path below the folder of all; None for those that have none.

    >>> kind(PurePath("animals/birds/owl.png")), kind(PurePath("clothes/t_sock.png"))
    ('bird', None)
    """
    return next((name for name, folders in KINDS.items() if any(path.is_relative_to(each) for each in folders)), None)


def family(path: PurePath) -> str:
    """What names of stamps that may show one thing have in common.

    >>> family(PurePath("animals/mammals/pig_golden2.png")), family(PurePath("vehicles/dumper_mirror.png"))
    ('animals/mammals/pig_golden', 'vehicles/dumper')
    """
    stem = re.sub(r"([-_]?(\d+|mirror))+$", "", path.stem.lower())
    return (path.parent / stem).as_posix()
