"""A Program: what learning makes. Config, preprocessing, weights and the record of how it was made, in one folder.

    program.json         what it is (schema below), with checksums of the files beside it
    weights.safetensors  tensors "nets/ROLE/NAME" and "prep/NAME"
    assets…              files that the preprocessing needs as such (tokenizer.json)
    README.md            the card for people
    evaluations/         scores on later data, each a file of its own; not part of the program's identity

Loading needs no training data, no user's code and no pickle: program.json holds *registered names* (a task, a runtime,
models), never module paths, so a folder cannot make sw2 import something. A plug-in's program says which distribution
to install. `id` is the SHA-256 of everything that decides its answers; two programs with the same id answer alike.

    {"format": 1, "id": …, "task": …, "runtime": …, "domain": {"name", "distribution", "version"},
     "nets": {role: {"model": name, "config": {…}}}, "prep": {…}, "files": {name: {"sha256", "bytes"}},
     "uses": {role: {"id", "path"}}, "binds": {name: {"sha256", "bytes"}}, "card": {…}}

Older formats move forward by the numbered steps in `core.migrations`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from sw2.base.config import from_dict, to_dict
from sw2.base.errors import ProgramError, UnknownName, UsageError
from sw2.base.store import (
    canonical_json,
    finite,
    folder,
    is_file,
    parse_json,
    pretty_json,
    sha256_of_bytes,
    sha256_of_file,
    write_text,
)
from sw2.core.card import Card, render_card
from sw2.core.migrations import FORMAT, migrate
from sw2.core.model import Model, unshared
from sw2.core.task import Prep, PrepState, Score, Task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Answer", "Loader", "Net", "Program", "Runtime", "is_program", "locate", "read_document"]

Answer = Mapping[str, Any]
C = TypeVar("C")


class Loader(Protocol):
    """The part of `core.registry.Registry` that loading a program needs."""

    def task(self, name: str) -> Task: ...

    def model_class(self, name: str) -> type[Model]: ...

    def runtime_class(self, name: str) -> type[Runtime]: ...


@dataclass(frozen=True)
class Net:
    """A network inside a program, with the catalogue's name of its class."""

    model: str
    module: Model


class Runtime(ABC):
    """What a program does: raw inputs in, answers out. Offers a capability by inheriting it.

    Class attributes:
        name: its registered name.
        Prep: the class that restores its preprocessing.
    """

    name: ClassVar[str]
    Prep: ClassVar[type[Prep]]

    @abstractmethod
    def __init__(self, nets: Mapping[str, Model], prep: Any, uses: Mapping[str, Program]) -> None:
        """Take the networks by role, the preprocessing and the programs that this one uses."""

    @abstractmethod
    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        """One answer for each raw input, in order; JSON-able values, keyed by the task's outputs."""

    @classmethod
    def offers(cls) -> list[str]:
        """Names of the capabilities that it offers."""
        return sorted(base.__name__ for base in cls.__mro__[1:] if base.__module__.endswith("capabilities"))


@dataclass(frozen=True, kw_only=True)
class Program:
    """An immutable learned program.

    >>> import sw2                                        # doctest: +SKIP
    >>> program = sw2.load("digits")                      # doctest: +SKIP
    >>> program("seven.png")["label"]                     # doctest: +SKIP
    '7'
    """

    task: Task
    runtime: Runtime
    nets: Mapping[str, Net]
    prep: Prep
    provider: Mapping[str, str]
    card: Card
    uses: Mapping[str, Program] = field(default_factory=dict)
    binds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    path: Path | None = None
    said: Mapping[str, Any] | None = None

    @classmethod
    def assemble(
        cls,
        *,
        task: Task,
        runtime: type[Runtime],
        nets: Mapping[str, Net],
        prep: Prep,
        provider: Mapping[str, str],
        card: Card | None = None,
        uses: Mapping[str, Program] | None = None,
    ) -> Program:
        """A program from its parts; the networks are put into evaluation mode on the CPU."""
        modules = {role: net.module.eval().requires_grad_(False) for role, net in nets.items()}
        return cls(
            task=task,
            runtime=runtime(modules, prep, uses or {}),
            nets=nets,
            prep=prep,
            provider=provider,
            card=card or Card(),
            uses=uses or {},
        )

    def __call__(self, raw: Any) -> Answer:
        """The answer to one raw input."""
        return self.runtime.answer([raw])[0]

    def map(self, raws: Sequence[Any]) -> list[Answer]:
        """Answers to many raw inputs, in order, computed in batches."""
        return self.runtime.answer(raws)

    def capability(self, wanted: type[C]) -> C:
        """What this program can do as a typed protocol.

        Raises:
            ProgramError: when it cannot.
        """
        if not isinstance(self.runtime, wanted):
            raise ProgramError(
                f"This program cannot '{wanted.__name__}'.",
                where=self.path or self.task.name,
                wanted=f"a program with the capability {wanted.__name__}",
                got=f"a program for {self.task.name} with: {', '.join(self.capabilities()) or 'none'}",
            )
        return self.runtime

    def capabilities(self) -> list[str]:
        """Names of the capabilities that it offers."""
        return self.runtime.offers()

    def thaw(self) -> dict[str, Model]:
        """Trainable copies of its networks by role, for `--from`, meld and shrink."""
        return {role: net.module.thawed().requires_grad_(True) for role, net in self.nets.items()}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by their names in the weights file."""
        named = {
            f"nets/{role}/{name}": tensor
            for role, net in self.nets.items()
            for name, tensor in net.module.state_dict().items()
        }
        named |= {f"prep/{name}": torch.from_numpy(array) for name, array in self.prep.state().arrays.items()}
        return unshared(named)

    @property
    def id(self) -> str:
        """SHA-256 over everything that decides its answers; the card and evaluations are not part of it."""
        digests = {name: _digest(tensor) for name, tensor in self.tensors().items()}
        return sha256_of_bytes(canonical_json({**self._identity(), "tensors": digests}).encode())

    def _identity(self) -> dict[str, Any]:
        state = self.prep.state()
        nets = {role: {"model": net.model, "config": to_dict(net.module.config)} for role, net in self.nets.items()}
        # A loaded program keeps the configs as its folder has them: a setting that a later sw2 adds, with the default
        # that means what was before, must not make it another program.
        said = self.said or {"nets": nets, "prep": dict(state.config)}
        return {
            "task": self.task.name,
            "runtime": self.runtime.name,
            "nets": said["nets"],
            "prep": said["prep"],
            "assets": {name: sha256_of_bytes(content) for name, content in state.assets.items()},
            "uses": {role: program.id for role, program in self.uses.items()},
            "binds": {name: dict(bound) for name, bound in self.binds.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Write the folder `path`, whole or not at all.

        Raises:
            ProgramError: when something other than a program is there already.
            ResourceError: when the disk is full.
        """
        path = Path(path)
        if path.exists() and any(path.iterdir()) and not (path / "program.json").exists():
            raise ProgramError(
                "There is something else at this path.", where=path, wanted="a new folder", got="a folder with files"
            )
        identity = self._identity()
        with folder(path) as partial:
            save_file(self.tensors(), partial / "weights.safetensors")
            for name, content in self.prep.state().assets.items():
                (partial / name).write_bytes(content)
            files = {
                file.name: {"sha256": sha256_of_file(file), "bytes": file.stat().st_size}
                for file in sorted(partial.iterdir())
            }
            document = {
                "format": FORMAT,
                "id": self.id,
                **{key: identity[key] for key in ("task", "runtime")},
                "domain": dict(self.provider),
                **{key: identity[key] for key in ("nets", "prep")},
                "files": files,
                "uses": {role: {"id": program.id, "path": _from(path, program)} for role, program in self.uses.items()},
                "binds": identity["binds"],
                "card": self.card.to_json(),
            }
            (partial / "program.json").write_text(pretty_json(document), encoding="utf-8")
            (partial / "README.md").write_text(render_card(document), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path, registry: Loader) -> Program:
        """The program in the folder `path` (or in the run folder `path`).

        Raises:
            ProgramError: when it is damaged, made by a newer sw2, or needs a distribution that is not installed.
        """
        return cls._load(locate(Path(path)), registry, ())

    @classmethod
    def _load(cls, path: Path, registry: Loader, users: tuple[Path, ...]) -> Program:
        """`load` for a program that is used by those in the folders `users`."""
        document = read_document(path)
        weights = _read_weights(path, document)
        try:
            task = registry.task(document["task"])
            runtime_class = registry.runtime_class(document["runtime"])
            model_classes = {role: registry.model_class(entry["model"]) for role, entry in document["nets"].items()}
        except UnknownName as error:
            raise ProgramError(
                "This program needs a distribution that is not installed.",
                where=path,
                wanted=f"{document['domain']['distribution']} {document['domain']['version']}",
                got=error.message,
                do=f"pip install {document['domain']['distribution']}",
            ) from error
        nets = {
            role: Net(entry["model"], _rebuild(model_classes[role], role, entry, weights, path))
            for role, entry in document["nets"].items()
        }
        arrays = {name[5:]: tensor.numpy() for name, tensor in weights.items() if name.startswith("prep/")}
        assets = {name: (path / name).read_bytes() for name in document["files"] if name != "weights.safetensors"}
        with _faults_are(path / "program.json", f"the preprocessing of {runtime_class.name}"):
            prep = runtime_class.Prep.restore(PrepState(config=document["prep"], arrays=arrays, assets=assets))
        uses: dict[str, Program] = {}
        for role, entry in document["uses"].items():
            used, above = locate(path / entry["path"]).resolve(), (*users, path.resolve())
            if used in above:
                raise _damaged(path / "program.json", f"another program as '{role}'", "a program that uses itself")
            uses[role] = cls._load(used, registry, above)
            if uses[role].id != entry["id"]:
                raise _damaged(path, f"the program used as '{role}' with id {entry['id'][:12]}", uses[role].id[:12])
        modules = {role: net.module.eval().requires_grad_(False) for role, net in nets.items()}
        with _faults_are(path / "program.json", f"what {runtime_class.name} is made from"):
            runtime = runtime_class(modules, prep, uses)
            card = Card.from_json(document["card"])
            suited = task.suited(prep)
        program = cls(
            task=suited,
            runtime=runtime,
            nets=nets,
            prep=prep,
            provider=document["domain"],
            card=card,
            uses=uses,
            binds=document["binds"],
            path=path,
            said={"nets": document["nets"], "prep": document["prep"]},
        )
        if (wanted := document.get("id", program.id)) != program.id:  # moved from another format, it has none
            raise _damaged(path / "program.json", f"what makes the id {wanted[:12]}", program.id[:12])
        return program

    def record(self, data_name: str, fingerprint: str, split: str, scores: Sequence[Score]) -> Path:
        """Keep an evaluation beside the program; one file per data and split."""
        assert self.path is not None, "only a saved program keeps evaluations"
        target = self.path / "evaluations" / f"{fingerprint[:12]}-{split}.json"
        record = {"data": data_name, "fingerprint": fingerprint, "split": split, "scores": [vars(s) for s in scores]}
        write_text(target, pretty_json(finite(record)))
        return target


def _from(path: Path, used: Program) -> str:
    """Where a used program stands, from the folder of the one that uses it: the two may be moved together."""
    if used.path is None:
        raise ProgramError(
            "A program that is used must be saved itself.",
            where=path,
            wanted="the folder of a program",
            got=f"a program for {used.task.name} in memory",
            do="Save it first.",
        )
    return os.path.relpath(used.path, path)


def is_program(path: Path) -> bool:
    """Whether `locate` would find a program."""
    return any((candidate / "program.json").is_file() for candidate in (path, path / "program"))


def locate(path: Path) -> Path:
    """The program's folder for `path`: itself, or the one inside a run folder.

    Raises:
        ProgramError: when there is no program.
    """
    for candidate in (path, path / "program"):
        if (candidate / "program.json").is_file():
            return candidate
    raise ProgramError(
        "There is no program here.",
        where=path,
        wanted="a folder with program.json",
        got="a folder without one" if path.is_dir() else "no such folder",
        do="Make one with `sw2 train`; an interrupted training goes on with `--resume`." if path.is_dir() else None,
    )


def _digest(tensor: Tensor) -> str:
    """The SHA-256 of type, shape and numbers, without a copy of them: tables of vectors are large."""
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(where: Path, wanted: str, got: str) -> ProgramError:
    return ProgramError(
        "This program is damaged.",
        where=where,
        wanted=wanted,
        got=got,
        do="Copy it again from where it came from, or train it again.",
    )


@contextlib.contextmanager
def _faults_are(where: Path, wanted: str) -> Iterator[None]:
    """Inside, what values of the wrong type or size raise is the program's damage and not our mistake."""
    try:
        yield
    except ProgramError:
        raise
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        StopIteration,
        TypeError,
        ValueError,
        UsageError,
    ) as error:
        raise _damaged(where, wanted, repr(error)) from error


def read_document(path: Path) -> dict[str, Any]:
    """The checked `program.json` of the folder `path`, moved to the present format; its weights stay unread.

    Raises:
        ProgramError: when it is damaged, or made by a newer sw2.
    """
    file = path / "program.json"
    try:
        document = parse_json(file.read_bytes())
        if not isinstance(document, dict) or not isinstance(document.get("format"), int):
            raise ValueError("no number under 'format'")
        if not isinstance(document.get("id", ""), str):
            raise ValueError("no text under 'id'")
    except (ValueError, OSError) as error:
        raise _damaged(file, "a JSON object that describes a program", str(error)) from error
    document = migrate(document, file)
    if wrong := _misshapen(document, _SCHEMA):
        raise _damaged(file, "all entries of a program", ", ".join(wrong))
    return document


# The schema at the top of this file. A type, or a mapping with an entry for each key; "*" stands for any key.
_SCHEMA: Mapping[str, Any] = {
    "task": str,
    "runtime": str,
    "domain": {"name": str, "distribution": str, "version": str},
    "nets": {"*": {"model": str, "config": dict}},
    "prep": dict,
    "files": {"weights.safetensors": {"sha256": str, "bytes": int}, "*": {"sha256": str, "bytes": int}},
    "uses": {"*": {"id": str, "path": str}},
    "binds": {"*": dict},
    "card": {field.name: list if field.name == "scores" else dict for field in fields(Card)},
}


def _misshapen(value: Any, schema: Any, path: str = "") -> list[str]:
    """What in `value` does not fit `schema`, as sentences without a full stop."""
    if isinstance(schema, type):
        return [] if isinstance(value, schema) else [f"{path} is no {schema.__name__}"]
    if not isinstance(value, dict):
        return [f"{path} is no dict"]
    wrong = [f"no {path}.{key}".replace(" .", " ") for key in schema if key not in value and key != "*"]
    known = {key: schema.get(key, schema.get("*")) for key in value}
    for key in value.keys() & {key for key, inner in known.items() if inner is not None}:
        wrong += _misshapen(value[key], known[key], f"{path}.{key}".lstrip("."))
    return sorted(wrong)


def _read_weights(path: Path, document: Mapping[str, Any]) -> dict[str, Tensor]:
    for name, expected in document["files"].items():
        file = path / name
        if Path(name).name != name or not is_file(file):
            raise _damaged(path, f"the file {name}", "no such file")
        if file.stat().st_size != expected["bytes"] or sha256_of_file(file) != expected["sha256"]:
            raise _damaged(
                file,
                f"{expected['bytes']} bytes with SHA-256 {expected['sha256'][:12]}…",
                f"{file.stat().st_size} bytes with SHA-256 {sha256_of_file(file)[:12]}…",
            )
    try:
        return dict(load_file(path / "weights.safetensors"))
    except (SafetensorError, ValueError) as error:
        raise _damaged(path / "weights.safetensors", "a safetensors file", str(error)) from error


def _rebuild(
    model_class: type[Model], role: str, entry: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path
) -> Model:
    """The network of one role, with every mismatch between config and weights listed at once."""
    prefix = f"nets/{role}/"
    found = {name[len(prefix) :]: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    with (
        _faults_are(path / "program.json", f"a config of {entry['model']} for {len(found)} tensors"),
        _at_most(2 * len(found) + 100),
        torch.device("meta"),
    ):
        config = from_dict(model_class.Config, entry["config"], f"nets.{role}.config")
        module = model_class(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    wrong = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    wrong += [f"{name} is not part of the network" for name in found.keys() - wanted.keys()]
    wrong += [
        f"{name} is {tuple(found[name].shape)}, not {shape}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    if wrong:
        raise _damaged(path / "weights.safetensors", "the tensors of its config", "; ".join(sorted(wrong)))
    if any(buffer.is_meta for name, buffer in module.named_buffers() if name not in wanted):
        module = model_class(config)  # tables that are computed and not saved need a real device
    module.load_state_dict(found, assign=True)
    return module


@contextlib.contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Inside, a network of more parameters is given up: a config that speaks of a billion layers ends in time."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > parameters:
            raise ValueError(f"more than {parameters} parameters")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
