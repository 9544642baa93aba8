"""A folder of `transformers`: its settings and its tensors, from whoever it may come.

    config.json               settings; `Settings` remembers the architecture, and refuses by name
    *.safetensors             tensors, in one file or in several with an index; `read_tensors`
    preprocessor_config.json, tokenizer.json, …          what a domain reads beside them

Notable
- A setting that is not computed is refused by its name, never ignored: an unknown number would come out as a subtly
  different model.
- Weights that do not fit are reported all at once: every missing, left-over and misshapen tensor.

What it does not do: weights in pickle files (they can carry code); which architecture is which network (a domain's
`families`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sw2.base.errors import ProgramError
from sw2.base.store import is_file, parse_json

__all__ = ["Settings", "architectures", "check_tensors", "read_object", "read_tensors"]


def architectures(hf: Mapping[str, Any]) -> list[str]:
    """What a config.json names as its architectures; empty where it names none."""
    named = hf.get("architectures")
    return [str(each) for each in named] if isinstance(named, list) else []


class Settings:
    """A config.json whose values are asked for by name, with what they must be."""

    def __init__(self, hf: Mapping[str, Any]) -> None:
        self._hf = hf
        self.architecture = (architectures(hf) or ["?"])[0]

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of `names` that is there and not null."""
        for name in names:
            if self._hf.get(name) is not None:
                return self._hf[name]
        return default

    def whole(self, *names: str, default: int | None = None) -> int:
        """A whole number above 0."""
        value = self.get(*names, default=default)
        if type(value) is not int or value < 1:
            raise self.wrong(names[0], "a whole number above 0", value)
        return value

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers above 0, at least one."""
        values = self.get(name)
        if not isinstance(values, list) or not values or any(type(value) is not int or value < 1 for value in values):
            raise self.wrong(name, "a list of whole numbers above 0", values)
        return tuple(values)

    def number(self, *names: str, default: float) -> float:
        """A number above 0."""
        value = self.get(*names, default=default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.wrong(names[0], "a number above 0", value)
        return float(value)

    def share(self, name: str) -> float:
        """A share from 0 to below 1; 0 where it is not said."""
        value = self.get(name, default=0.0)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise self.wrong(name, "a number from 0 to below 1", value)
        return float(value)

    def only(self, name: str, *fine: Any) -> None:
        """Refuse a setting that has another value than those we compute; absent is fine."""
        value = self.get(name)
        if value is not None and not any(value == option and type(value) is type(option) for option in fine):
            raise self.wrong(name, " or ".join(repr(option) for option in fine) or "nothing", value)

    def wrong(self, name: str, wanted: str, got: Any) -> ProgramError:
        """The error that names a setting."""
        return ProgramError(
            f"This {self.architecture} has a setting that sw2 does not compute.",
            where=f"config.json, {name}",
            wanted=wanted,
            got=repr(got),
            do="Choose other weights of this family.",
        )


def check_tensors(
    given: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], where: str, left: set[str] | None = None
) -> None:
    """Hold tensors to the shapes that a config speaks of.

    Args:
        given: by name.
        wanted: the shape of each.
        where: for the message.
        left: names among `given` that must be wanted; None for all.

    Raises:
        ProgramError: lists every tensor that is missing, left over or misshapen.
    """
    wrong = []
    for name, shape in wanted.items():
        if name not in given:
            wrong.append(f"missing {name} {list(shape)}")
        elif tuple(given[name].shape) != shape:
            wrong.append(f"{name} is {list(given[name].shape)}, wanted {list(shape)}")
    over = (set(given) if left is None else left) - set(wanted)
    wrong += [f"left over {name} {list(given[name].shape)}" for name in sorted(over)]
    if wrong:
        raise ProgramError(
            "These weights do not fit their config.",
            where=f"{where}, {len(wrong)} tensors",
            wanted="each tensor that the config speaks of, in its shape, and no other",
            got="; ".join(wrong),
            do="Check that config and weights belong together.",
        )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ProgramError: it cannot be read, or is no object.
    """
    try:
        value = parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ProgramError("This file cannot be read.", where=path, wanted="a JSON object", got=error) from error
    if not isinstance(value, dict):
        raise ProgramError("This file cannot be read.", where=path, wanted="a JSON object", got=type(value).__name__)
    return value


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by name; each from the one file that has it.

    Raises:
        ProgramError: a file is missing or damaged, or there are pickle files only.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        placed = read_object(index).get("weight_map")
        if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
            raise ProgramError("This index cannot be read.", where=index, wanted="a weight_map of names", got="none")
        files = sorted({folder / Path(name).name for name in placed.values()})
    else:
        files = [folder / "model.safetensors"]
    found: dict[str, Tensor] = {}
    for file in files:
        if not is_file(file):
            raise ProgramError(
                "The weights are not there.",
                where=file,
                wanted="weights as safetensors",
                got="pickle files only" if any(folder.glob("*.bin")) else "no such file",
                do="Save the model with safe_serialization=True.",
            )
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    if name in found:
                        raise ProgramError("A tensor is there twice.", where=file, wanted="each tensor once", got=name)
                    found[name] = opened.get_tensor(name)
        except SafetensorError as error:
            raise ProgramError(
                "These weights are damaged.",
                where=file,
                wanted="a whole safetensors file",
                got=error,
                do="Copy or download it again.",
            ) from error
    return found
