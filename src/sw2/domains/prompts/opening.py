"""From a prompt's file to a program: the file is read, and the program that it runs on is found.

A path in the file counts from the file's own folder; what is no path there is a name of the catalogue, such as
`smollm2-135m-instruct`. `sw2 run extract.toml@OTHER …` runs it on another program.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from sw2.base.errors import ProgramError
from sw2.core.card import Card
from sw2.core.draft import Draft
from sw2.core.kinds import Kind
from sw2.core.program import Program
from sw2.domains.prompts.task import PromptTask
from sw2.domains.prompts.writer import MODEL, PromptPrep, PromptTalker, PromptWriter, talker_of

if TYPE_CHECKING:
    from sw2.core.registry import Registry
    from sw2.core.task import Context

__all__ = ["PromptDraft", "open_prompt"]

_ABOVE: Final[ContextVar[tuple[Path, ...]]] = ContextVar("prompts that are being opened", default=())
"""Prompts whose program is being looked for: it may be a prompt that runs on one of them."""


def open_prompt(path: Path, registry: Registry, context: Context, on: str = "") -> Program:
    """The prompt in the file `path` as a program.

    Args:
        registry: finds the program that it runs on.
        context: may be asked before that is installed.
        on: the program to run on, a path or a name; "" for the one that the file names.

    Raises:
        ProgramError: there is no such file, something is wrong with it (with the line), or its program is not there or
            cannot chat.
    """
    try:
        source = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise ProgramError(
            "There is no prompt here.", where=path, wanted="a file with a prompt", got="no such file"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ProgramError(
            "This prompt is no text.", where=f"{path}, line {line}", wanted="UTF-8", got=error.reason
        ) from error
    draft = PromptDraft(source, str(path))
    if not on:
        beside = path.parent / draft.program
        on = str(beside) if beside.exists() else draft.program
    above = _ABOVE.get()
    if path.resolve() in above:
        raise ProgramError("A prompt cannot run on itself.", where=above[-1], wanted="another program", got=path)
    token = _ABOVE.set((*above, path.resolve()))
    try:
        model = registry.program(on, context)
    finally:
        _ABOVE.reset(token)
    return draft.on(model, registry, on)


@final
class PromptDraft(Draft):
    """A prompt without a program to run on.

    Args:
        source: the file's text.
        where: what to call it in messages.

    Raises:
        ProgramError: something is wrong with it, with the line.
    """

    def __init__(self, source: str, where: str) -> None:
        self._prep, self._where = PromptPrep(source, where), where

    @property
    def program(self) -> str:
        return self._prep.prompt.program

    @property
    def inputs(self) -> Mapping[str, Kind]:
        return self._prep.prompt.inputs

    @property
    def facts(self) -> Mapping[str, Any]:
        prompt = self._prep.prompt
        return {
            "about": prompt.about,
            "runs on": prompt.program,
            "inputs": [
                name + (f" ({kind.name})" if kind.default is None else f" ({kind.name}, {kind.default!r})")
                for name, kind in prompt.inputs.items()
            ],
            "answer": ", ".join(prompt.output.fields or prompt.output.options) or prompt.output.kind,
            "examples": len(prompt.examples),
            "tests": len(prompt.tests),
        }

    def on(self, program: Program, registry: Registry, named: str = "") -> Program:
        """It, running on that program, which the card calls `named`, or as the text does."""
        talker_of(program, self._where)
        return Program.assemble(
            task=PromptTask().suited(self._prep),
            runtime=PromptTalker if self._prep.prompt.converses else PromptWriter,
            nets={},
            prep=self._prep,
            provider=registry.provider(PromptTask.name),
            card=Card(facts={**self.facts, "runs on": named or self.program}),
            uses={MODEL: program},
        )
