"""Labelled pictures: a folder of folders, a table, and three named sets.

    photos/cat/1.jpg  photos/dog/2.jpg                 `read_folder`: the folder is the label
    photos/train/cat/1.jpg  photos/test/dog/2.jpg      the same with splits
    photos.csv .tsv .jsonl .parquet                    `read_table`: one row a picture, columns "image" and "label"
    digits                                             1,797 hand-written digits of 8x8, part of sw2
    fashion-mnist                                      60,000 + 10,000 pieces of clothing of 28x28
    stamp-kinds                                        some 460 drawings and cut-outs in colour of eleven kinds

Every reader returns `Data` whose examples are mappings:

    image     a path, the bytes of a picture file, or uint8 [H, W] or [H, W, C]: what `read_picture` takes
    label     str
    sha256    of the file's bytes, or of the array: equal pictures have equal hashes
    name      where people find it: the path inside the folder or as in the table, the number of the row, "train/17"
    family    pictures of one family may show one thing: `hold_out` keeps them together; only where there is any
    metadata  what else a row of a table says: texts, numbers, true and false, by column; only where there is any

`read_unlabelled` reads pictures to be asked, and leaves the label out.

`Data.facts["labels"]` is the tuple of all labels; their order is the order of the network's outputs.

Choices: each picture is decoded once while reading, so a damaged file is found before the training starts and not in
the middle of it. A damaged picture is named and skipped; one is always forgiven, more only up to `max_bad` of the rows.
The fingerprint covers labels and contents, not paths, so a copied folder is the same data. `hold_out` decides by
content, so that copies of one picture never stand on both sides; nor do pictures of one family.

Sources: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998),
https://doi.org/10.24432/C50P49 (CC BY 4.0), in the form that scikit-learn distributes; H. Xiao, K. Rasul and
R. Vollgraf, "Fashion-MNIST" (2017), https://arxiv.org/abs/1708.07747 (MIT), in the form that Debian distributes;
stamps: `stamps.py`.

Not here: resizing and normalisation (`parts.prep.pictures`, the task), augmentation (`augment.py`), boxes and masks.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sw2.base.errors import DataError, MissingExtra, UsageError
from sw2.base.names import unknown
from sw2.base.packages import DebianFiles
from sw2.base.store import home, sha256_of_bytes, sha256_of_file
from sw2.core.data import Data, Example, Rejected, Split, refuse_if_too_many
from sw2.domains.vision.stamps import KINDS, STAMPS, family, kind
from sw2.parts.prep.pictures import read_picture

__all__ = [
    "NAMED",
    "digits",
    "fashion_mnist",
    "hold_out",
    "is_divided",
    "leaves_out",
    "read",
    "read_folder",
    "read_table",
    "read_unlabelled",
    "stamp_kinds",
    "write_digits",
]

# Folder and column values that mean a split, by what people call them.
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")

Confirm = Callable[[str], bool]
Row = tuple[str, str, Any, Any, Mapping[str, Any]]  # where, split, image, label, other columns; not yet checked


def read(source: str | Path, *, confirm: Confirm, image: str = "image", label: str = "label") -> Data:
    """The data that `source` names: a folder, a table, or a named set when no such file exists.

    Args:
        source: a path, or one of `NAMED`.
        confirm: asked before something is downloaded, with size and licence; True means go on.
        image: the column of pictures in a table.
        label: the column of labels in a table.
    """
    path = Path(source)
    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        return read_table(path, image=image, label=label)
    if str(source) in NAMED:
        return NAMED[str(source)](confirm)
    raise unknown("data set or file", str(source), NAMED)


def read_folder(path: Path, *, max_bad: float = 0.01) -> Data:
    """Pictures in folders named after their labels.

    The folders of `path` are splits when all of them are called train, val, test or the like and train is among them;
    else they are labels. Every file below a label is an example, at any depth, whatever its ending; hidden files are
    left alone.

    Raises:
        DataError: when there are no class folders, fewer than two labels, too many bad files, or a label without
            training pictures.
    """
    folders = {entry.name: entry for entry in _visible(path) if entry.is_dir()}
    if is_divided(path):
        labelled = [(_SPLITS[name.lower()], entry) for name, folder in folders.items() for entry in _visible(folder)]
    else:
        labelled = [("train", entry) for entry in folders.values()]
    rows: list[Row] = [
        (str(file), str(split), file, entry.name, {})
        for split, entry in labelled
        if entry.is_dir()
        for file in _files(entry)
    ]
    if not rows:
        raise DataError(
            "There are no labelled pictures here.",
            where=path,
            wanted=f"a folder for each label, such as {path / 'cat'} and {path / 'dog'}, with pictures inside",
            got=f"{len(folders)} folders and {sum(entry.is_file() for entry in _visible(path))} files",
            do="Sort the pictures into one folder for each label, or give a table with the columns image and label.",
        )
    return _gather(path.resolve().name, str(path), rows, max_bad)


def is_divided(path: Path) -> bool:
    """Whether the folders of `path` are splits, and not labels."""
    splits = [_SPLITS.get(entry.name.lower()) for entry in _visible(path) if entry.is_dir()]
    return all(splits) and "train" in splits


def leaves_out(path: Path) -> bool:
    """Whether `read_folder` would leave out files: those beside the folders of labels."""
    return any(entry.is_file() for entry in _visible(path))


def read_table(
    path: Path, *, image: str = "image", label: str = "label", split: str = "split", max_bad: float = 0.01
) -> Data:
    """Rows of a CSV, TSV, JSON lines or Parquet file.

    Args:
        path: the table. CSV and TSV have a header row and are UTF-8.
        image: the column of pictures: paths, absolute or relative to the table's folder. In Parquet also bytes, or
            the {bytes, path} pairs of Hugging Face data sets.
        label: the column of labels: text or whole numbers. Class names that a Hugging Face file declares are used.
        split: the column that says train, validation or test; without it every row is for training.
        max_bad: the share of rows that may be skipped.

    Raises:
        DataError: when the file cannot be read, a column is missing, or as in `read_folder`.
        MissingExtra: when a Parquet file is given and pyarrow is not installed.
    """
    rows = _table_rows(path, image, label, split)
    if not rows:
        raise DataError("This table has no rows.", where=path, wanted="a row for each picture", got="none")
    return _gather(path.stem, str(path), rows, max_bad)


def _table_rows(path: Path, image: str, label: str, split: str) -> list[Row]:
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise UsageError(
            "This kind of table cannot be read.",
            where=path,
            wanted=f"a file that ends in {', '.join(_TABLES)}",
            got=path.suffix or "no ending",
            do="Save the table as CSV.",
        )
    rows: list[Row] = []
    for where, record in readers[path.suffix.lower()](path, (image, label, split)):
        if isinstance(record, str):
            rows.append((where, "train", ValueError(record), None, {}))
            continue
        named = record.get(split)
        kind = "train" if named is None else _SPLITS.get(str(named).strip().lower())
        picture = record.get(image)
        if isinstance(picture, Mapping):
            picture = picture.get("bytes") or picture.get("path")
        if isinstance(picture, str):
            picture = path.parent / picture if picture.strip() else None
        if kind is None:
            picture = ValueError(f"split '{named}' is none of train, validation, test")
        said = {name: value for name, value in record.items() if name not in (image, label, split)}
        said = {name: value for name, value in said.items() if isinstance(value, str | int | float)}
        rows.append((where, kind or "train", picture, record.get(label), said))
    return rows


def read_unlabelled(source: str | Path, *, confirm: Confirm, image: str = "image", max_bad: float = 0.01) -> Data:
    """Pictures without labels, as the split "unlabelled".

    Args:
        source: a folder, every file of which at any depth is a picture; a table, of which only the column of pictures
            is read; or one of `NAMED`, whose training pictures are meant.
        confirm: asked before something is downloaded.
        image: the column of pictures in a table.
        max_bad: the share of pictures that may be skipped.

    Raises:
        DataError: when there are none, or too many that cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        rows: list[Row] = [(str(file), "unlabelled", file, None, {}) for file in _files(path)]
    elif path.is_file():
        rows = [(where, "", picture, None, {}) for where, _, picture, _, _ in _table_rows(path, image, image, "split")]
    elif str(source) in NAMED:
        data = NAMED[str(source)](confirm)
        bare = [{key: each[key] for key in ("image", "sha256", "name")} for each in data.split("train")]
        return replace(data, splits={"unlabelled": bare}, fingerprint=_fingerprint({"unlabelled": bare}))
    else:
        raise unknown("data set or file", str(source), NAMED)
    found, rejected = _sorted_out(rows, _base(path), _picture)
    refuse_if_too_many(rejected if len(rejected) > 1 else (), len(rows), where=source, share=max_bad)
    if not found:
        raise DataError("There are no pictures here.", where=source, wanted="at least one", got=_why_none(rejected))
    splits = {"unlabelled": [example for _, example in found]}
    return Data(
        name=path.resolve().name if path.is_dir() else path.stem,
        splits=splits,
        fingerprint=_fingerprint(splits),
        source=str(source),
        rejected=tuple(rejected),
    )


def _why_none(rejected: Sequence[Rejected]) -> str:
    return f"{rejected[0].where}: {rejected[0].why}" if rejected else "none"


def digits(confirm: Confirm | None = None) -> Data:
    """The 1,797 digits of 8x8 pixels, 0 black to 255 white, in one split. Nothing is downloaded."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as stored:
        pictures_NHW, targets_N = stored["pictures"], stored["targets"]
    names = tuple(str(number) for number in range(10))
    # 16 grey levels and white: 0..16 becomes 0..255.
    scaled_NHW = np.rint(pictures_NHW * (255 / 16)).astype(np.uint8)
    return _named(
        "digits",
        {"train": _array_examples(scaled_NHW, targets_N, names, "train")},
        names,
        licence="CC BY 4.0",
        source="UCI Optical Recognition of Handwritten Digits, test part, as distributed by scikit-learn",
    )


def write_digits(path: Path) -> None:
    """Make `digits.npz` anew from scikit-learn: how the file in this folder came about."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    np.savez_compressed(path, pictures=bunch.images.astype(np.uint8), targets=bunch.target.astype(np.uint8))


FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FASHION_SHA256 = {
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}
_FASHION = DebianFiles(
    title="Fashion-MNIST",
    package="dataset-fashion-mnist",
    files={f"usr/share/datasets/fashion-mnist/{name}": digest for name, digest in _FASHION_SHA256.items()},
    size="31 MB",
    licence="MIT licence",
)


def fashion_mnist(confirm: Confirm) -> Data:
    """Fashion-MNIST: 60,000 training and 10,000 test pictures of 28x28 pixels, ten labels.

    The four files are looked for where Debian's package puts them, then in sw2's cache, and else fetched.

    Raises:
        UsageError: when `confirm` says no.
        ResourceError: when the package cannot be fetched.
        DataError: when a file is not the published one.
    """
    folder = _FASHION.found(home() / "data" / "fashion-mnist", confirm)[0].parent
    return _named(
        "fashion-mnist",
        {
            split: _array_examples(
                _read_idx(folder / f"{stem}-images-idx3-ubyte.gz"),
                _read_idx(folder / f"{stem}-labels-idx1-ubyte.gz"),
                FASHION_LABELS,
                split,
            )
            for split, stem in (("train", "train"), ("test", "t10k"))
        },
        FASHION_LABELS,
        licence="MIT",
        source=f"Zalando Research, Debian package {_FASHION.package}",
    )


def stamp_kinds(confirm: Confirm) -> Data:
    """Tux Paint's stamps by the kind of what they show, one split, in colour, of sizes of their own.

    Raises:
        UsageError, ResourceError, DataError: as `fashion_mnist`.
    """
    folder = STAMPS.found(home() / "data" / "stamps", confirm)
    examples: list[Example] = []
    for path in sorted(folder.rglob("*.png")):
        inside = path.relative_to(folder)
        if label := kind(inside):
            example = {"image": path, "label": label, "sha256": sha256_of_file(path), "name": inside.as_posix()}
            examples.append({**example, "family": family(inside)})
    return _named(
        "stamp-kinds",
        {"train": examples},
        tuple(KINDS),
        licence="GPL-2",
        source=f"Tux Paint, Debian package {STAMPS.package}",
    )


NAMED: Mapping[str, Callable[[Confirm], Data]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "stamp-kinds": stamp_kinds,
}


def hold_out(data: Data, fractions: Mapping[str, float], seed: int) -> Data:
    """The training examples of `data` divided into several splits, each label in the same proportions.

    Within each label the pictures are put in the order of SHA-256(seed, picture), and the i-th of n goes to the split
    in whose share of [0, 1] the position (i + 1/2) / n falls. So the division depends on the pictures and the seed
    alone, not on names or order of files; and copies of one picture, even with different labels, stay together.

    Args:
        data: its "train" split is divided; splits of other names are kept.
        fractions: the share of each new split, adding up to 1, with "train" first, e.g. {"train": 0.8, "test": 0.2}.
        seed: another seed, another division.

    Raises:
        UsageError: when the fractions are not shares of a whole or name a split that `data` has.
        DataError: when a label is too rare to have both training and held-out examples.
    """
    if (
        next(iter(fractions), None) != "train"
        or min(fractions.values()) <= 0
        or abs(sum(fractions.values()) - 1) > 1e-9
        or set(fractions) & (set(data.splits) - {"train"})
    ):
        raise UsageError(
            "These are not the shares of a division.",
            where=data.name,
            wanted="positive shares that add up to 1, 'train' first, of splits that the data does not have yet",
            got=dict(fractions),
            do="For instance train=0.8, test=0.2.",
        )
    together: defaultdict[str, list[Example]] = defaultdict(list)
    for example in data.split("train"):
        together[_kin(example)].append(example)
    by_label: defaultdict[str, list[str]] = defaultdict(list)
    for kin in sorted(together, key=lambda kin: sha256_of_bytes(f"{seed}:{kin}".encode())):
        by_label[min(example["label"] for example in together[kin])].append(kin)
    bounds = np.cumsum(list(fractions.values()))
    goes_to: dict[str, str] = {}
    for kins in by_label.values():
        sizes = np.array([len(together[kin]) for kin in kins])
        position = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
        places = np.minimum(np.searchsorted(bounds, position), len(bounds) - 1)
        goes_to.update((kin, list(fractions)[place]) for kin, place in zip(kins, places, strict=True))
    splits: dict[str, Split] = {
        name: [example for example in data.split("train") if goes_to[_kin(example)] == name] for name in fractions
    }
    divided = replace(data, splits={**splits, **{name: data.splits[name] for name in data.splits if name != "train"}})
    _check_labels(divided)
    return divided


def _kin(example: Example) -> str:
    """What pictures that must stay together have in common."""
    return str(example.get("family", example["sha256"]))


# Rows to Data


def _gather(name: str, source: str, rows: Sequence[Row], max_bad: float) -> Data:
    """Check every row, decode every picture once, and put the good ones into splits."""
    found, rejected = _sorted_out(rows, _base(Path(source)), _checked)
    splits: dict[str, list[Example]] = {"train": []}
    for split, example in found:
        splits.setdefault(split, []).append(example)
    if len(rejected) > 1 or len(rejected) == len(rows) or not max_bad:
        refuse_if_too_many(rejected, len(rows), where=source, share=max_bad)
    labels = tuple(sorted({example["label"] for split in splits.values() for example in split}))
    data = _named(name, splits, labels, licence="unknown", source=source)
    data = replace(data, rejected=tuple(rejected))
    _check_labels(data)
    return data


def _base(source: Path) -> Path:
    """The folder from which names are told."""
    return source if source.is_dir() else source.parent


def _sorted_out(
    rows: Sequence[Row], base: Path, check: Callable[[Row, Path], Example | str]
) -> tuple[list[tuple[str, Example]], list[Rejected]]:
    """(split, example) of each row that can be used, and the rows that cannot."""
    found: list[tuple[str, Example]] = []
    rejected: list[Rejected] = []
    with ThreadPoolExecutor() as threads:  # decoding leaves the interpreter free
        for (where, split, *_), example in zip(rows, threads.map(lambda row: check(row, base), rows), strict=True):
            if isinstance(example, str):
                rejected.append(Rejected(where, example))
            else:
                found.append((split, example))
    return found, rejected


def _picture(row: Row, base: Path) -> Example | str:
    """The example of a row without its label, or why there is none."""
    where, _, picture, _, said = row
    if isinstance(picture, ValueError):
        return str(picture)
    if picture is None:
        return "there is no picture"
    if not isinstance(picture, Path | bytes):
        return f"a picture is a path or bytes, not {type(picture).__name__}"
    try:
        content = picture if isinstance(picture, bytes) else picture.read_bytes()
        read_picture(content, 3)
    except DataError as error:
        return f"{error.message} {error.got}"
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte in it
        return f"The file cannot be opened: {error}"
    if isinstance(picture, bytes):
        name = where.rpartition(", ")[2]
    else:
        name = picture.relative_to(base).as_posix() if picture.is_relative_to(base) else str(picture)
    metadata = {"metadata": dict(said)} if said else {}
    told = name.encode("utf-8", "replace").decode()  # a file's name need not be text
    return {"image": picture, "sha256": sha256_of_bytes(content), "name": told, **metadata}


def _checked(row: Row, base: Path) -> Example | str:
    """The example of a row, or why there is none."""
    label = row[3]
    if isinstance(row[2], ValueError):  # the whole row is unusable
        return str(row[2])
    if row[2] is None:
        return "there is no picture"
    if isinstance(label, bool) or not isinstance(label, str | int):
        return "there is no label" if label is None else f"a label is text or a whole number, not {label!r}"
    text = unicodedata.normalize("NFC", str(label).strip())  # file systems spell accents in two ways
    if not text:
        return "the label is empty"
    example = _picture(row, base)
    return example if isinstance(example, str) else {**example, "label": text}


def _fingerprint(splits: Mapping[str, Split]) -> str:
    """SHA-256 over split, label and picture of each row in order."""
    digest = hashlib.sha256()
    for split, examples in splits.items():
        for example in examples:
            digest.update(json.dumps([split, example.get("label"), example["sha256"]]).encode())
    return digest.hexdigest()


def _named(name: str, splits: Mapping[str, Split], labels: tuple[str, ...], *, licence: str, source: str) -> Data:
    return Data(
        name=name,
        splits=splits,
        fingerprint=_fingerprint(splits),
        licence=licence,
        source=source,
        facts={"labels": labels},
    )


def _check_labels(data: Data) -> None:
    """Refuse data from which nothing can be learned, or on which what was learned cannot be judged."""
    learned = {example["label"] for example in data.split("train")}
    if len(learned) < 2:
        raise DataError(
            "There is nothing to tell apart.",
            where=data.source,
            wanted="training pictures of at least two labels",
            got=f"{len(learned)}: {', '.join(sorted(learned)) or 'none'}",
            do="Add pictures of another label.",
        )
    for split, examples in data.splits.items():
        if strange := sorted({example["label"] for example in examples} - learned):
            raise DataError(
                f"The split '{split}' has labels that were never seen in training.",
                where=data.source,
                wanted="training pictures for every label",
                got=", ".join(strange[:10]) + (" …" if len(strange) > 10 else ""),
                do="Add training pictures of these labels, correct their spelling, or remove them.",
            )


# Folders and tables


def _visible(path: Path) -> list[Path]:
    """What is in a folder, in a fixed order, without what operating systems leave behind."""
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise DataError("This folder cannot be opened.", where=path, wanted="a folder", got=error.strerror) from error
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _LEFT_BY_SYSTEMS]


def _files(path: Path) -> Iterator[Path]:
    """The files below `path` at any depth, in a fixed order; links to folders are not followed."""
    for entry in _visible(path):
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _files(entry)
        else:
            yield entry


def _need_columns(path: Path, columns: Iterable[str], names: tuple[str, str, str]) -> None:
    """The columns for pictures and labels have to be there; the one for splits does not."""
    there = list(columns)
    for name in names[:2]:
        if name not in there:
            raise DataError(
                f"The table has no column '{name}'.",
                where=path,
                wanted="the columns " + " and ".join(dict.fromkeys(names[:2])),
                got=", ".join(there) or "no columns",
                do="Rename a column, or name yours: --set data.image=COLUMN --set data.label=COLUMN.",
            )


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, with or without a byte order mark, with their ends."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise DataError(
            "This table is not UTF-8 text.",
            where=path,
            wanted="UTF-8",
            got=f"byte {error.object[error.start]:#x} that is none",
            do="Save it again as UTF-8.",
        ) from error


def _read_csv(path: Path, names: tuple[str, str, str]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(where, row) or (where, what is wrong with it) for each row of a CSV or TSV file."""
    table = csv.reader(_lines(path), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    header: list[str] | None = None
    while True:
        try:
            cells = next(table, None)
        except csv.Error as error:
            raise DataError("This table cannot be read.", where=f"{path}:{table.line_num}", got=error) from error
        if cells is None:
            break
        if header is None:
            header = [cell.strip() for cell in cells]
            _need_columns(path, header, names)
        elif cells:
            fits = len(cells) == len(header)
            problem = f"{len(cells)} cells under {len(header)} headings"
            yield f"{path}:{table.line_num}", dict(zip(header, cells, strict=True)) if fits else problem
    if header is None:
        _need_columns(path, [], names)


def _read_jsonl(path: Path, names: tuple[str, str, str]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(where, row) or (where, what is wrong with it) for each line of a JSON lines file."""
    first = True
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield where, f"this is no JSON: {error}"
            continue
        if not isinstance(record, dict):
            yield where, f"a row is a JSON object, not {type(record).__name__}"
            continue
        if first:
            _need_columns(path, record, names)
            first = False
        yield where, record


def _read_parquet(path: Path, names: tuple[str, str, str]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(where, row) for each row of a Parquet file, class numbers replaced by the class names that it declares."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Reading Parquet needs the library 'pyarrow', which is not installed.", do="pip install pyarrow"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _need_columns(path, schema.names, names)
            classes = _declared_classes(schema.metadata, names[1])
            number = 0
            kept = [field.name for field in schema if field.name in names or _is_plain(field.type)]
            for batch in file.iter_batches(columns=kept):
                for record in batch.to_pylist():
                    number += 1
                    if classes and isinstance(record[names[1]], int) and 0 <= record[names[1]] < len(classes):
                        record[names[1]] = classes[record[names[1]]]
                    yield f"{path}, row {number}", record
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError("This Parquet file cannot be read.", where=path, wanted="Parquet", got=error) from error


def _is_plain(kind: Any) -> bool:
    """Whether a Parquet column holds texts, numbers or true and false."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_primitive(kind))


def _declared_classes(metadata: Mapping[bytes, bytes] | None, label: str) -> list[str]:
    """The names of a ClassLabel column as Hugging Face `datasets` writes them into a Parquet file."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]
        return [str(name) for name in feature["names"]] if feature["_type"] == "ClassLabel" else []
    except (KeyError, TypeError, ValueError):
        return []


# Named sets


def _array_examples(pictures_NHW: np.ndarray, targets_N: np.ndarray, names: Sequence[str], split: str) -> list[Example]:
    return [
        {
            "image": picture_HW,
            "label": names[target],
            "sha256": sha256_of_bytes(picture_HW.tobytes()),
            "name": f"{split}/{number}",
        }
        for number, (picture_HW, target) in enumerate(zip(pictures_NHW, targets_N, strict=True))
    ]


def _read_idx(path: Path) -> np.ndarray:
    """An array in the IDX format of MNIST: 0, 0, type, rank, sizes as big-endian 32-bit numbers, then the values."""
    content = gzip.decompress(path.read_bytes())
    assert content[:3] == b"\0\0\x08", "the checksum vouches for bytes in IDX format"
    rank = content[3]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(content, ">u4", rank, 4))
