"""What a program with a window of words does: it goes on from a prompt, word by word."""

from __future__ import annotations

from collections.abc import Mapping

from sw2.base.errors import ProgramError
from sw2.core.model import Model
from sw2.core.program import Program
from sw2.domains.language.task import Writer
from sw2.domains.language.window.network import WindowStep, WordWindow
from sw2.domains.language.window.words import WordPrep

__all__ = ["WordWriter"]


class WordWriter(Writer):
    """Writes on from a prompt, a word at a time."""

    name = "word-writer"
    Prep = WordPrep

    net: WordWindow
    prep: WordPrep

    def __init__(self, nets: Mapping[str, Model], prep: WordPrep, uses: Mapping[str, Program]) -> None:
        del uses
        net = nets["window"]
        assert isinstance(net, WordWindow)
        if prep.tokenizer.vocab_size != net.config.vocab_size:
            raise ProgramError(
                "The network and its vocabulary differ in size.",
                wanted=f"{net.config.vocab_size} words",
                got=f"{prep.tokenizer.vocab_size} words",
                do="Use the vocabulary that came with these weights.",
            )
        self.net, self.prep = net, prep

    def step_function(self, slots: int) -> WindowStep:
        return self.net.step_function(slots)

    def reader(self) -> WordWindow:
        return self.net
