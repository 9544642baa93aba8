"""Foreign tokenizers: GGUF's settings, a Hugging Face folder's files, and ours, each into the others.

A GGUF file holds tokens, merges and the *name* of the rule that cuts text into words; a folder holds `tokenizer.json`,
which says it all. Only byte-level byte-pair encodings are read (GPT-2, BLOOM, SmolLM2, LLaMA 3, Qwen).

Sources: the expressions are those of llama.cpp (src/llama-vocab.cpp) and of the models' own tokenizer.json.

What it does not do: SentencePiece models (LLaMA 1 and 2, Mistral before its version 3), word pieces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sw2.base.errors import ProgramError
from sw2.base.store import parse_json
from sw2.domains.language.prep import Controls
from sw2.domains.language.tokenizer import END_OF_TEXT, Tokenizer

__all__ = ["from_folder", "from_settings", "to_folder", "to_settings"]

_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3: Final = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES: Final = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES_ALONE: Final = {**_BYTES, "use_regex": False}


def _split(expression: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _BYTES_ALONE]}


# The rules by GGUF's names.
_RULES: Final[Mapping[str, dict[str, Any]]] = {
    "gpt-2": _BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTES]},
    "llama-bpe": _split(_LLAMA3),
    "qwen2": _split(_LLAMA3.replace("{1,3}", "")),
    "bloom": _split(r" ?[^(\s|[.,!?…。，、।۔،])]+"),
}
_NORMAL, _CONTROL, _USER = 1, 3, 4


def from_settings(settings: Mapping[str, Any], rows: int, where: Path) -> tuple[Tokenizer, Controls]:
    """The tokenizer in a GGUF file's settings.

    Args:
        settings: by name.
        rows: how many tokens the embedding knows.
        where: the file, for errors.

    Raises:
        ProgramError: it is of a kind that is not known, damaged, or has more tokens than the embedding.
    """

    def wrong(key: str, wanted: str, got: object) -> ProgramError:
        return ProgramError(
            "The tokenizer of this GGUF file cannot be used.",
            where=f"{where}, tokenizer.ggml.{key}",
            wanted=wanted,
            got=got,
            do="Choose a model with a byte-level tokenizer (GPT-2, SmolLM2, LLaMA 3, Qwen).",
        )

    def get(key: str, default: Any = None) -> Any:
        return settings.get(f"tokenizer.ggml.{key}", default)

    if get("model") != "gpt2":
        raise wrong("model", "gpt2, a byte-level byte-pair encoding", get("model"))
    rule = get("pre", "gpt-2")
    if rule not in _RULES:
        raise wrong("pre", " or ".join(_RULES), rule)
    tokens, merges, kinds = get("tokens", []), get("merges", []), get("token_type")
    kinds = kinds or [_NORMAL] * len(tokens)
    if not all(isinstance(value, list) for value in (tokens, merges, kinds)) or len(kinds) != len(tokens):
        raise wrong("token_type", "as many types as tokens", f"{len(kinds)} and {len(tokens)}")
    if len(set(map(str, tokens))) != len(tokens) or not tokens:
        raise wrong("tokens", "tokens that are all different", f"{len(tokens) - len(set(map(str, tokens)))} repeats")
    if len(tokens) > rows:
        raise wrong("tokens", f"at most the {rows} rows of the embedding", f"{len(tokens)} tokens")
    pairs = [str(merge).split(" ") for merge in merges]
    if bad := [pair for pair in pairs if len(pair) != 2]:
        raise wrong("merges", "two pieces with one space between", bad[0])
    added = [
        {
            "id": number,
            "content": token,
            "special": kind == _CONTROL,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER)
    ]
    document = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": _RULES[rule],
        "post_processor": None,
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": pairs,
            "ignore_merges": rule == "llama-bpe",
        },
    }

    def named(key: str) -> str:
        number = get(f"{key}_token_id")
        return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else ""

    control = {token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL}
    start = named("bos") if get("add_bos_token", False) else ""
    template = settings.get("tokenizer.chat_template", "")
    controls = _controls(control, named("bos"), named("eos"), start, [named("eot")], str(template))
    if controls is None:
        raise wrong("eos_token_id", "a control token that ends a text", named("eos") or "none")
    return Tokenizer(json.dumps(document), controls.document), controls


def _controls(
    control: set[str], bos: str, eos: str, begins: str, more_ends: list[str], template: str
) -> Controls | None:
    """What the control tokens mean, as far as the file says; None when nothing ends a text."""
    # GPT-2's token stands between documents in every family that has it, also where another one ends an answer.
    document = next((token for token in (END_OF_TEXT, bos, eos) if token in control), None)
    ends = tuple(dict.fromkeys(token for token in (eos, *more_ends, END_OF_TEXT) if token in control))
    if document is None or not ends:
        return None
    return Controls(
        document=document,
        begins=begins if begins in control else "",
        ends=ends,
        chat_template=template,
        named={name: token for name, token in (("bos_token", bos), ("eos_token", eos)) if token},
    )


def to_settings(tokenizer: Tokenizer, controls: Controls, rows: int) -> dict[str, Any]:
    """A tokenizer as GGUF's settings, without the prefix "tokenizer."; padded to the embedding's `rows`.

    Raises:
        ProgramError: it cuts words by a rule that GGUF has no name for.
    """
    document = json.loads(tokenizer.to_json())
    rule = next((name for name, each in _RULES.items() if _alike(each, document["pre_tokenizer"])), None)
    if rule is None:
        raise ProgramError(
            "GGUF has no name for the rule by which this tokenizer cuts words.",
            wanted=" or ".join(_RULES),
            got=json.dumps(document["pre_tokenizer"])[:200],
            do="Export to a Hugging Face folder.",
        )
    names = {number: token for token, number in document["model"]["vocab"].items()}
    special = {token["id"]: token for token in document["added_tokens"]}
    names |= {number: token["content"] for number, token in special.items()}
    kinds = [
        (_CONTROL if special[number]["special"] else _USER) if number in special else _NORMAL if number in names else 5
        for number in range(rows)
    ]
    ids = tokenizer.control
    ends = [ids[token] for token in controls.ends]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in document["model"]["merges"]]
    settings: dict[str, Any] = {
        "ggml.model": "gpt2",
        "ggml.pre": rule,
        "ggml.tokens": [names.get(number, f"[PAD{number}]") for number in range(rows)],
        "ggml.token_type": kinds,
        "ggml.bos_token_id": ids.get(controls.begins or controls.named.get("bos_token", ""), ids[controls.document]),
        "ggml.eos_token_id": ends[0],
        "ggml.add_bos_token": bool(controls.begins),
        "ggml.add_space_prefix": False,
    }
    if merges:
        settings["ggml.merges"] = merges
    if controls.chat_template:
        settings["chat_template"] = controls.chat_template
    return settings


def _alike(one: Any, other: Any) -> bool:
    """Whether two rules cut alike; only the entries that decide it are compared."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = ("type", "pattern", "behavior", "invert", "pretokenizers", "individual_digits", "use_regex")
        return all(_alike(one.get(key), other.get(key)) for key in (*keys, "Regex", "add_prefix_space"))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


# ------------------------------------------------------------------------------------------------- Hugging Face folder


def from_folder(folder: Path, rows: int) -> tuple[Tokenizer, Controls]:
    """The tokenizer in a Hugging Face folder.

    Raises:
        ProgramError: there is none, it is of another kind, or it has more tokens than the embedding has `rows`.
    """
    text = _read(folder / "tokenizer.json")
    if text is None:
        raise ProgramError(
            "This folder has no tokenizer.",
            where=folder,
            wanted="tokenizer.json",
            got="none",
            do="Save the fast tokenizer of the model into it.",
        )
    said = _json(folder / "tokenizer_config.json")
    generation = _json(folder / "generation_config.json")
    try:
        document = parse_json(text)
        special = {token["content"]: token["id"] for token in document["added_tokens"] if token["special"]}
        by_id = {number: token for token, number in special.items()}
        post = json.dumps(document.get("post_processor"))
    except (ValueError, KeyError, TypeError) as error:
        raise ProgramError("The tokenizer cannot be read.", where=folder / "tokenizer.json", got=repr(error)) from error

    def named(key: str) -> str:
        value = said.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        return value if isinstance(value, str) else ""

    bos, eos = named("bos_token"), named("eos_token")
    ends = generation.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    more = [by_id[number] for number in ends if isinstance(number, int) and number in by_id]
    # A tokenizer that puts a token in front of every text names it where it finishes an encoding.
    begins = bos if bos and (said.get("add_bos_token") is True or json.dumps(bos) in post) else ""
    template = _read(folder / "chat_template.jinja") or said.get("chat_template") or ""
    controls = _controls(set(special), bos, eos, begins, more, template if isinstance(template, str) else "")
    if controls is None:
        raise ProgramError(
            "This tokenizer names no token that ends a text.",
            where=folder / "tokenizer_config.json",
            wanted="eos_token",
            got=eos or "none",
        )
    tokenizer = Tokenizer(text, controls.document)
    if tokenizer.vocab_size > rows:
        raise ProgramError(
            "The tokenizer has more tokens than the network.",
            where=folder / "tokenizer.json",
            wanted=f"at most the {rows} rows of the embedding",
            got=f"{tokenizer.vocab_size} tokens",
            do="Use the tokenizer that came with these weights.",
        )
    return tokenizer, controls


def to_folder(tokenizer: Tokenizer, controls: Controls, context: int, folder: Path) -> None:
    """Write the tokenizer's files into a Hugging Face folder."""
    ids = tokenizer.control
    ends = [ids[token] for token in controls.ends]
    begin = controls.begins or controls.named.get("bos_token", controls.document)
    document = json.loads(tokenizer.to_json())
    if controls.begins and not document.get("post_processor"):
        token = {"SpecialToken": {"id": controls.begins, "type_id": 0}}
        document["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [token, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [token, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                controls.begins: {
                    "id": controls.begins,
                    "ids": [ids[controls.begins]],
                    "tokens": [controls.begins],
                }
            },
        }
    said: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begin,
        "eos_token": controls.ends[0],
        "add_bos_token": bool(controls.begins),
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    generation = {"bos_token_id": ids[begin], "eos_token_id": ends if len(ends) > 1 else ends[0]}
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(said, indent=2), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2), encoding="utf-8")
    if controls.chat_template:
        (folder / "chat_template.jinja").write_text(controls.chat_template, encoding="utf-8")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ProgramError("A file of this folder is not UTF-8.", where=path, got=error) from error


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    text = _read(path)
    if text is None:
        return {}
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ProgramError("A file of this folder is no JSON.", where=path, wanted="an object", got=error) from error
    return value if isinstance(value, dict) else {}
