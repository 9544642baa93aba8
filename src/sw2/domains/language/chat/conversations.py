"""Conversations to learn from: JSON lines in the two forms that everybody uses, checked turn by turn.

    {"messages": [{"role", "content", perhaps "tool_calls"}, …], perhaps "tools", "check", "skill"}       OpenAI's
    {"conversations": [{"from", "value"}, …], perhaps "system", "tools"}                                  ShareGPT's
    {"prompt": messages, "chosen": a message, "rejected": a message, …}                                   trl's pairs

    talks.jsonl        one a line; talks.json: a list of them
    talks/             train.jsonl and, where they exist, validation.jsonl and test.jsonl; or any other .jsonl files

An example is {"messages", "tools", "where", …}, its messages in OpenAI's form; "check" says how an answer is judged
(see `judging`), "skill" names the part of the scores that it counts in; "rejected" is a worse last answer (see
`preferences`). Without files for them the held-out splits are
made by the hash of the content (or of what `data.group` names, so that those of one group stay on one side); equal
conversations are dropped before.

What cannot be learned from is counted and named: a role that nobody knows, turns that do not alternate, an empty turn,
a call without arguments, no turn of the assistant.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sw2.base.config import check_ranges, check_shares
from sw2.base.errors import DataError, UsageError
from sw2.base.store import canonical_json, sha256_of_bytes
from sw2.core.data import Data, Example, Rejected, Split, refuse_if_too_many
from sw2.domains.language.chat.template import plain_message, plain_tool
from sw2.domains.language.four_grams import four_grams, shared

__all__ = ["SPLITS", "ChatOptions", "conversation", "fault", "gathered", "kinds_of_faults", "overlap", "read"]

SPLITS: Final = ("train", "validation", "test")
_UNUSABLE: Final = 0.25
"""The share of conversations that may be unusable before reading fails."""
_ROLE_OF: Final = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """How conversations are read.

    Args:
        test_share: share held out for judging, where no file holds them.
        validation_share: share held out to watch while learning, likewise.
        split_seed: another number, another division.
        group: the key of an example whose equals stay on one side of the division; "" divides conversation by
            conversation.
        train: how many examples to learn from, of a named data set.
        skip: how many of its first ones are left out before these, such as those that were learned from already.
        validation: how many to watch with, likewise.
        test: how many to judge with, likewise.
        shares: what the named data set "assistant" is mixed of, as in "orderbot=2,records=1"; "" for equal parts,
            with fewer orders to learn from, which are long. Of "preferences", the skills whose answers are paired.
    """

    test_share: float = 0.1
    validation_share: float = 0.05
    split_seed: int = 0
    group: str = ""
    train: int = 4000
    skip: int = 0
    validation: int = 200
    test: int = 400
    shares: str = ""

    def __post_init__(self) -> None:
        check_shares("data", self, "test_share", "validation_share")
        at_least = {"train": 1, "skip": 0, "validation": 0, "test": 0}
        check_ranges(
            "data",
            self,
            {name: (getattr(self, name) >= n, f"a whole number of at least {n}") for name, n in at_least.items()},
        )


def read(source: str, options: ChatOptions) -> Data:
    """The conversations at a path.

    Raises:
        DataError: there are none, or too many cannot be used.
    """
    path = Path(source)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    own = {split: path / f"{split}.jsonl" for split in SPLITS if path.is_dir() and (path / f"{split}.jsonl").is_file()}
    if "train" in own:
        parts: Mapping[str, list[Path]] = {split: [file] for split, file in own.items()}
    else:
        parts = {"": files}
    rows = {part: [row for file in each for row in _rows(file, len(files) > 1)] for part, each in parts.items()}
    return gathered(rows, path.name or source, source, options)


def gathered(
    rows: Mapping[str, Iterable[Example | Rejected]],
    name: str,
    source: str,
    options: ChatOptions,
    licence: str = "unknown",
) -> Data:
    """Checked conversations as Data.

    Args:
        rows: examples by split; all under "" where they are still to be divided.
        name, source, licence: see `core.data.Data`.
        options: how they are divided.

    Raises:
        DataError: there are none, or too many cannot be used.
    """
    rejected: list[Rejected] = []
    kept: dict[str, dict[str, Example]] = {}
    total = copies = 0
    seen: set[str] = set()
    # Held-out ones first: what stands in two files is held out.
    for part in sorted(rows, key=lambda part: part == "train"):
        kept[part] = {}
        for row in rows[part]:
            total += 1
            why = row if isinstance(row, Rejected) else None
            if why is None and (found := fault(row["messages"], row["tools"]) or _pair_fault(row)):  # type: ignore[index,arg-type]
                why = Rejected(row["where"], found)  # type: ignore[index]
            if why is not None:
                rejected.append(why)
                continue
            content = [row["messages"], row["tools"], row.get("rejected")]  # type: ignore[index,union-attr]
            digest = sha256_of_bytes(canonical_json(content).encode())
            copies += digest in seen
            if digest not in seen:
                kept[part][digest] = row  # type: ignore[assignment]
            seen.add(digest)
    if not any(kept.values()):
        shown = "; ".join(f"{row.where}: {row.why}" for row in rejected[:3])
        raise DataError(
            "There is no conversation here.",
            where=source,
            wanted='JSON lines with "messages" or "conversations"',
            got=shown or "nothing",
        )
    refuse_if_too_many(rejected, total, where=source, share=_UNUSABLE)
    splits = _divided(kept[""], options) if "" in kept else {part: list(each.values()) for part, each in kept.items()}
    splits = {split: splits[split] for split in SPLITS if splits.get(split)}
    if "train" not in splits:
        raise DataError("There is no conversation to learn from.", where=source, wanted="some in train", got="none")
    digests = {split: sorted(canonical_json(dict(each)) for each in part) for split, part in splits.items()}
    return Data(
        name=name,
        splits=splits,
        fingerprint=sha256_of_bytes(canonical_json(digests).encode()),
        licence=licence,
        source=source,
        rejected=tuple(rejected),
        facts={"equal conversations dropped": copies},
    )


def _divided(unique: Mapping[str, Example], options: ChatOptions) -> dict[str, list[Example]]:
    """By the hash of the content, or of the group."""
    groups: dict[str, list[Example]] = {}
    for digest, example in unique.items():
        groups.setdefault(str(example.get(options.group, digest)) if options.group else digest, []).append(example)
    ordered = sorted(groups, key=lambda group: sha256_of_bytes(f"{options.split_seed}:{group}".encode()))
    wanted = {"test": options.test_share * len(unique), "validation": options.validation_share * len(unique)}
    splits: dict[str, list[Example]] = {"test": [], "validation": [], "train": []}
    for number, group in enumerate(ordered):
        last = number == len(ordered) - 1  # something must be left to learn from
        into = next((each for each in ("test", "validation") if not last and len(splits[each]) < wanted[each]), "train")
        splits[into] += groups[group]
    return splits


# ------------------------------------------------------------------------------------------------------------ reading


def _rows(file: Path, several: bool) -> Iterator[Example | Rejected]:
    for number, text in _objects(file):
        where = f"{file.name}, {number}" if several else number
        try:
            value = json.loads(text) if isinstance(text, str) else text
            yield conversation(value, where)
        except (ValueError, RecursionError) as error:
            yield Rejected(where, str(error) if isinstance(error, _Unreadable) else f"not JSON: {error}")


def _objects(file: Path) -> Iterator[tuple[str, Any]]:
    """(its place, the text of a line, or a value of a list)."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            "This file is not UTF-8.", where=file, wanted="JSON lines", got=f"byte {error.start}"
        ) from error
    except FileNotFoundError as error:
        raise DataError(
            "There are no such conversations.", where=file, wanted="a .jsonl file", got="nothing"
        ) from error
    if file.suffix == ".json":
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError("This file is no JSON.", where=file, wanted="a list of conversations", got=error) from error
        if not isinstance(values, list):
            raise DataError(
                "This file is no list.", where=file, wanted="a list of conversations", got=type(values).__name__
            )
        yield from ((f"number {number}", value) for number, value in enumerate(values))
        return
    yield from ((f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


class _Unreadable(ValueError):
    """Not a conversation in one of the two forms; the text says why."""


def conversation(value: Any, where: str) -> Example:
    """A row in either form as an example; its turns are not checked (see `fault`).

    Raises:
        ValueError: it is in neither form.
    """
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        messages = [_openai(each) for each in value["messages"]]
        more = {key: each for key, each in value.items() if key not in ("messages", "tools", "where")}
    elif isinstance(value, Mapping) and isinstance(value.get("conversations"), list):
        messages = [_sharegpt(each) for each in value["conversations"]]
        if isinstance(value.get("system"), str) and value["system"]:
            messages.insert(0, {"role": "system", "content": value["system"]})
        more = {key: each for key, each in value.items() if key not in ("conversations", "system", "tools", "where")}
    elif isinstance(value, Mapping) and {"prompt", "chosen", "rejected"} <= set(value):
        messages = [*_said(value["prompt"], "user"), *_said(value["chosen"], "assistant")]
        more = {key: each for key, each in value.items() if key not in ("prompt", "chosen", "tools", "where")}
    else:
        keys = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise _Unreadable(f'neither "messages" nor "conversations", only {keys}')
    if "rejected" in more:
        said = _said(more["rejected"], "assistant")
        if len(said) != 1:
            raise _Unreadable('"rejected" is no single message')
        more["rejected"] = said[0]
    tools = value.get("tools") or []
    if isinstance(tools, str):
        tools = json.loads(tools)
    if not isinstance(tools, list):
        raise _Unreadable("tools are no list")
    return {**more, "messages": messages, "tools": tools, "where": str(value.get("where", where))}


def _said(value: Any, role: str) -> list[Any]:
    """Messages that came as a list, as one, or as the text of one."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return [_openai(each) for each in (value if isinstance(value, list) else [value])]


def _openai(message: Any) -> Any:
    """A message whose content is a text where it came as a list of texts."""
    if isinstance(message, Mapping) and isinstance(message.get("content"), list):
        parts = message["content"]
        if all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
            return {**message, "content": "".join(part["text"] for part in parts)}
    return message


def _sharegpt(turn: Any) -> dict[str, Any]:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("from"), str):
        raise _Unreadable('a turn without "from"')
    said = turn.get("value")
    if turn["from"] == "function_call":
        call = json.loads(said) if isinstance(said, str) else said
        calls = [{"type": "function", "function": each} for each in (call if isinstance(call, list) else [call])]
        return {"role": "assistant", "content": "", "tool_calls": calls}
    return {"role": _ROLE_OF.get(turn["from"], turn["from"]), "content": said}


# ----------------------------------------------------------------------------------------------------------- checking


def fault(messages: Sequence[Any], tools: Sequence[Any] = ()) -> str:
    """What makes a conversation unusable, "" for a good one; faults of a kind begin alike, up to the colon."""
    before = ""
    calling = False
    for number, message in enumerate(messages):
        turn = f"turn {number + 1}"
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ("system", "user", "assistant", "tool"):
            return f"a role that nobody knows: {turn}, {str(role)[:40]!r}"
        try:
            plain = plain_message(message, number)
        except UsageError as error:
            return f"a turn that is not understood: {turn}, {error.got}"
        if not plain["content"].strip() and "tool_calls" not in plain and role != "tool":
            return f"an empty turn: {turn}, {role}"
        allowed = {
            "": ("system", "user"),
            "system": ("user",),
            "user": ("assistant",),
            "assistant": ("tool",) if calling else ("user", "tool"),
            "tool": ("tool", "assistant"),
        }[before]
        if role not in allowed:
            return f"turns that do not alternate: {turn}, {role} after {before or 'nothing'}"
        before, calling = role, "tool_calls" in plain
    if not any(message["role"] == "assistant" for message in messages):
        return "no turn of the assistant"
    try:
        for number, tool in enumerate(tools):
            plain_tool(tool, number)
    except UsageError as error:
        return f"a tool that is not understood: {error.got}"
    return ""


def _pair_fault(example: Example) -> str:
    """What makes a pair of answers unusable; "" for a good one, and for a conversation that is none."""
    rejected = example.get("rejected")
    if rejected is None:
        return ""
    last = example["messages"][-1]
    if last["role"] != "assistant":
        return "a pair whose conversation does not end with an answer"
    if found := fault([{"role": "user", "content": "x"}, rejected]):
        return f"a rejected answer that is not understood: {found}"
    if plain_message(rejected, 0) == plain_message(last, 0):
        return "both answers are the same"
    return ""


def kinds_of_faults(rejected: Sequence[Rejected]) -> list[str]:
    """A sentence for each kind, the most frequent first, with where the first ones stand."""
    counts = Counter(row.why.partition(":")[0] for row in rejected)
    lines = []
    for kind, count in counts.most_common():
        places = [row.where for row in rejected if row.why.partition(":")[0] == kind]
        more = ", …" if count > 3 else ""
        lines.append(f"skipped {count} for {kind}: {', '.join(places[:3])}{more}")
    return lines


def overlap(train: Split, held_out: Split) -> float:
    """The share of the different four-grams of words in `held_out` that stand in `train` too."""
    held, known = (
        four_grams(str(message["content"]) for example in side for message in example["messages"])
        for side in (held_out, train)
    )
    return shared(held, known)
