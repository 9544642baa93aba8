"""Conversations as tokens: a model's own chat template, and texts that cannot forge control tokens.

A template (Jinja, as `transformers` keeps them) turns messages into one string with control tokens such as
`<|im_start|>` in it. The string is cut at these; each becomes its one id, and what stands between is encoded as plain
text. A message that *spells* a control token must stay text: before rendering, such spellings are replaced by single
characters that stand in no message, and put back after cutting.

Templates come with weights and are not trusted: they run in Jinja's immutable sandbox, without files, and what they
raise is reported as the conversation's error.

Sources: https://huggingface.co/docs/transformers/chat_templating for what a template may use.

What it does not do: tools, documents, pictures in messages.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, final

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sw2.base.errors import ProgramError, UsageError
from sw2.domains.language.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "Message"]

Message = Mapping[str, str]
"""{"role": "system", "user" or "assistant", "content": text}."""

_LONGEST = 1 << 20


@final
class ChatTemplate:
    """A template and the tokenizer that it writes for.

    Args:
        source: the Jinja template.
        tokenizer: of the same model.
        special: names that templates use, such as {"bos_token": "<s>"}.

    Raises:
        ProgramError: the template cannot be parsed.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, special: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ProgramError("The chat template cannot be read.", wanted="a Jinja template", got=error) from error
        self._tokenizer, self._special = tokenizer, dict(special)
        controls = sorted(tokenizer.control, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, controls)))

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a conversation, up to where the assistant's answer begins.

        Raises:
            UsageError: a message has no role or content, or the template refuses the conversation.
        """
        _check(messages)
        spelled = sorted({found for message in messages for found in self._controls.findall(message["content"])})
        used = {character for message in messages for character in message["content"]}
        free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
        guards = {text: next(free) for text in spelled}
        guarded = [{**message, "content": _replaced(message["content"], guards)} for message in messages]
        rendered = self._render(guarded)
        back = {guard: text for text, guard in guards.items()}
        ids: list[int] = []
        at = 0
        for found in [*self._controls.finditer(rendered), None]:
            end = len(rendered) if found is None else found.start()
            if plain := _replaced(rendered[at:end], back):
                ids += self._tokenizer.encode(plain)
            if found is not None:
                ids.append(self._tokenizer.control[found.group()])
                at = found.end()
        return ids

    def _render(self, messages: list[dict[str, str]]) -> str:
        try:
            text = self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise UsageError(
                "The model's chat template refuses this conversation.",
                wanted="roles and an order that the model knows",
                got=f"{[message['role'] for message in messages]}: {error}",
            ) from error
        if len(text) > _LONGEST + sum(len(message["content"]) for message in messages):
            raise ProgramError(
                "The chat template writes without end.", wanted=f"at most {_LONGEST} characters", got=len(text)
            )
        return text


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _replaced(text: str, by: Mapping[str, str]) -> str:
    for old, new in by.items():
        text = text.replace(old, new)
    return text


def _check(messages: Sequence[Any]) -> None:
    for number, message in enumerate(messages):
        fine = isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not fine:
            raise UsageError(
                "A message is not understood.",
                where=f"message {number}",
                wanted='{"role": "user", "content": "…"}',
                got=repr(message)[:200],
            )
    if not messages:
        raise UsageError("The conversation is empty.", wanted="at least one message", got="none")
