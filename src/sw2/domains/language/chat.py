"""Conversations as tokens: a model's own chat template, and texts that cannot forge control tokens.

A template (Jinja, as `transformers` keeps them) turns messages into one string with control tokens such as
`<|im_start|>` in it. The string is cut at these; each becomes its one id, and what stands between is encoded as plain
text. A message that *spells* a control token must stay text: before rendering, such spellings, and pieces of one at a
message's borders, are replaced by single characters that stand in no message, and put back after cutting. Roles are
those of the field and no others.

Templates come with weights and are not trusted: they run in Jinja's immutable sandbox, without files, and what they
raise is reported as the conversation's error.

Sources: https://huggingface.co/docs/transformers/chat_templating for what a template may use.

What it does not do: tools, documents, pictures in messages.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, final

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sw2.base.errors import ProgramError, UsageError
from sw2.domains.language.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "Message"]

Message = Mapping[str, str]
"""{"role": "system", "user" or "assistant", "content": text}."""

_ROLES: Final = ("system", "user", "assistant", "tool")
_LONGEST: Final = 1 << 20


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
        environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
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
        used = {character for message in messages for character in message["content"]}
        free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
        back: dict[str, str] = {}

        def guard(text: str) -> str:
            back[character := next(free)] = text
            return character

        guarded = [{**message, "content": self._guarded(message["content"], guard)} for message in messages]
        rendered = self._render(guarded)
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

    def _guarded(self, content: str, guard: Callable[[str], str]) -> str:
        content = self._controls.sub(lambda found: guard(found.group()), content)
        controls = self._tokenizer.control
        # Half a control token at a border could meet its other half in the template or in the next message.
        end = max((k for each in controls for k in range(1, len(each)) if content.endswith(each[:k])), default=0)
        if end:
            content = content[:-end] + guard(content[-end:])
        start = max((k for each in controls for k in range(1, len(each)) if content.startswith(each[-k:])), default=0)
        return guard(content[:start]) + content[start:] if start else content

    def _render(self, messages: list[dict[str, str]]) -> str:
        try:
            text = self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except Exception as error:  # a template can raise whatever an expression can
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
        if not fine or message["role"] not in _ROLES:
            raise UsageError(
                "A message is not understood.",
                where=f"message {number}",
                wanted=f'{{"role": "user", "content": "…"}}, the role one of {", ".join(_ROLES)}',
                got=repr(message)[:200],
            )
    if not messages:
        raise UsageError("The conversation is empty.", wanted="at least one message", got="none")
