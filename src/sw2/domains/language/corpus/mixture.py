"""Several sources in fixed shares: a file in TOML that names them.

    preset = "redpajama"             # optional: shares by the names of its sources

    [sources.code]
    path = "code/"                   # a folder or a file, from where this file lies; or python-stdlib
    share = 0.3                      # of all tokens that are learned from
    quality = ""                     # further settings of data.…, for this source alone:
                                     # text, shortest, longest, languages, quality

    [sources.notes]
    path = "notes.jsonl"
    share = 0.7

Shares sum to 1. Instead of shares the sources may say `epochs`, how often each is read while the others are read as
often as they say; the shares follow from their tokens. With neither, each source is read equally often. `epochs` beside
`share` is what the author of the mixture had in mind, and is shown beside what the budget comes to.

Source of the preset: Touvron et al. 2023, https://arxiv.org/abs/2302.13971, table 1 (LLaMA, trained on 1.4 T tokens),
which RedPajama set out to rebuild.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sw2.base.config import from_dict
from sw2.base.errors import DataError
from sw2.base.names import pick, unknown

__all__ = ["FILE", "PRESETS", "Source", "read_mixture", "shares_of"]

FILE: Final = "mixture.toml"
"""A folder that holds a file of this name is a mixture."""

PRESETS: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "redpajama": {
        "commoncrawl": (0.670, 1.10),
        "c4": (0.150, 1.06),
        "github": (0.045, 0.64),
        "wikipedia": (0.045, 2.45),
        "books": (0.045, 2.23),
        "arxiv": (0.025, 1.06),
        "stackexchange": (0.020, 1.03),
    }
}
"""For each source its share and its epochs."""

_ROUNDING: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source.

    Args:
        path: a folder, a file, or the name of a corpus.
        share: of all tokens, above 0 and at most 1; None follows from epochs.
        epochs: how often it is read, above 0.
        text, shortest, longest, languages, quality: as in the settings of data.…, where this source differs.
    """

    path: str
    share: float | None = None
    epochs: float | None = None
    text: str | None = None
    shortest: int | None = None
    longest: int | None = None
    languages: str | None = None
    quality: str | None = None


def read_mixture(path: Path) -> tuple[dict[str, Source], list[str]]:
    """The sources that the file at `path` names, with whole paths, and what is worth a note.

    Raises:
        DataError: when it cannot be read, or its shares do not make a mixture.
        UnknownName: for a setting, a preset or a source of a preset that does not exist.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("This mixture cannot be read.", where=path, wanted="TOML in UTF-8", got=error) from error
    for key in document:
        if key not in ("preset", "sources"):
            raise unknown("setting of a mixture", key, ["preset", "sources"], where=path)
    tables = document.get("sources")
    if not isinstance(tables, dict) or not tables or not all(isinstance(each, dict) for each in tables.values()):
        raise DataError(
            "This mixture names no sources.",
            where=path,
            wanted='[sources.NAME] with path = "…", for each source',
            got=", ".join(document) or "an empty file",
        )
    notes: list[str] = []
    preset = document.get("preset", "")
    if preset:
        tables = _filled(str(preset), tables, path, notes)
    found = {name: from_dict(Source, table, f"sources.{name}") for name, table in tables.items()}
    _check(found, path)
    return {name: _placed(name, source, path) for name, source in found.items()}, notes


def _filled(preset: str, tables: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """The tables with the shares and epochs of a preset, scaled up when sources of it are left out."""
    known = pick("preset for a mixture", preset, PRESETS)
    for name, table in tables.items():
        if name not in known:
            raise unknown(f"source of the preset {preset}", name, known, where=path)
        if "share" in table or "epochs" in table:
            raise DataError(
                "The preset says the shares already.",
                where=f"{path}, sources.{name}",
                wanted="a path, without share and epochs",
                got=", ".join(table),
                do="Leave out either the preset or the shares.",
            )
    whole = sum(known[name][0] for name in tables)
    if missing := [name for name in known if name not in tables]:
        notes.append(
            f"of the preset {preset} {', '.join(missing)} are left out; the others' shares are scaled to sum 1"
        )
    return {
        name: {"share": known[name][0] / whole, "epochs": known[name][1], **table} for name, table in tables.items()
    }


def _check(sources: Mapping[str, Source], path: Path) -> None:
    for name, source in sources.items():
        for key, value in (("share", source.share), ("epochs", source.epochs)):
            if value is not None and not (value > 0 and (key == "epochs" or value <= 1)):
                raise DataError(
                    f"The {key} of a source is out of range.",
                    where=f"{path}, sources.{name}",
                    wanted="above 0" + (" and at most 1" if key == "share" else ""),
                    got=value,
                    do="Leave the source out if nothing of it is wanted.",
                )
    shares = {name: source.share for name, source in sources.items() if source.share is not None}
    if shares and len(shares) < len(sources):
        raise DataError(
            "Some sources have a share and some have none.",
            where=path,
            wanted="a share for each source, or for none",
            got="none for " + ", ".join(name for name in sources if name not in shares),
        )
    total = sum(shares.values())
    if shares and abs(total - 1) > _ROUNDING:
        raise DataError(
            "The shares of the sources do not sum to 1.",
            where=path,
            wanted="a sum of 1",
            got=f"{total:g}",
            do="In the same proportions: "
            + ", ".join(f"{name} {share / total:.4g}" for name, share in shares.items())
            + ".",
        )


def _placed(name: str, source: Source, path: Path) -> Source:
    """The source with its path from the folder of the mixture; a name of a corpus stays."""
    there = path.parent / source.path
    if there.exists():
        return Source(**{**vars(source), "path": str(there)})
    return source


def shares_of(shares: Sequence[float | None], epochs: Sequence[float | None], tokens: Sequence[int]) -> list[float]:
    """The share of each source in all tokens: as said, or from how often it is read and how long it is."""
    weights = [
        share if share is not None else (often or 1.0) * size
        for share, often, size in zip(shares, epochs, tokens, strict=True)
    ]
    return [weight / sum(weights) for weight in weights]
