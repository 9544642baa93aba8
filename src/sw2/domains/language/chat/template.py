"""Conversations as tokens: one template for learning, answering and judging; texts cannot forge control tokens.

A template (Jinja, as `transformers` keeps them) turns messages into one string with control tokens such as
`<|im_start|>` in it. The string is cut at these; each becomes its one id, and what stands between is encoded as plain
text. Whatever a message, a tool or a call *spells*, it stays text: before rendering, spellings of control tokens, and
pieces of one at a text's borders, are replaced by single characters that stand nowhere, and put back after cutting.
Roles are those of the field and no others.

**What the assistant wrote** is found by asking the template, so it is right for foreign ones too. The prompt of an
answer is the rendering of all messages before it, with the opening of an answer. It has to be a prefix of the whole
conversation's rendering; the assistant wrote what follows it, up to and with the token that ends the answer. The string
is also cut where answers begin, so that no token reaches over that border: what is learned is what is seen when
answering, token for token. A template that rewrites earlier turns (Qwen3 drops old thoughts) would show an answer
otherwise than it was written; then each answer becomes a row of its own, the conversation up to it.

Templates come with weights and are not trusted: they run in Jinja's immutable sandbox, without files, and what they
raise is reported as the conversation's error.

`OWN` is the template of programs that begin without one: ChatML, and calls as Hermes and Qwen write them.

Sources: https://huggingface.co/docs/transformers/chat_templating for what a template may use.

What it does not do: documents and pictures in messages.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NoReturn, final

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sw2.base.errors import ProgramError, UsageError
from sw2.domains.language.prep import Controls, TextPrep
from sw2.domains.language.tokenizer import Tokenizer

__all__ = [
    "IM_END",
    "IM_START",
    "OWN",
    "ChatTemplate",
    "Marked",
    "Message",
    "Schema",
    "own_controls",
    "plain_message",
    "plain_tool",
]

Message = Mapping[str, Any]
"""{"role": "system", "user", "assistant" or "tool", "content": text}; of an assistant perhaps "tool_calls", a list of
{"type": "function", "function": {"name": text, "arguments": an object, or its JSON as text}}."""
Schema = Mapping[str, Any]
"""A tool: {"type": "function", "function": {"name", "description", "parameters": a JSON schema}}."""

IM_START: Final = "<|im_start|>"
IM_END: Final = "<|im_end|>"

OWN: Final = """\
{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}
{%- if system or tools %}
    {{- '<|im_start|>system\\n' + system }}
    {%- if tools %}
        {{- '\\n\\n' if system else '' }}
        {{- 'Tools, one a line. Call one by <tool_call>{"name": ..., "arguments": ...}' }}
        {{- '</tool_call>; the next message is its result.' }}
        {%- for tool in tools %}
            {{- '\\n' + (tool['function'] | tojson) }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (loop.first and message['role'] == 'system') %}
        {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] }}
        {%- if message['tool_calls'] %}
            {%- for call in message['tool_calls'] %}
                {%- if message['content'] or not loop.first %}
                    {{- '\\n' }}
                {%- endif %}
                {{- '<tool_call>{"name": ' + (call['function']['name'] | tojson) + ', "arguments": ' }}
                {{- (call['function']['arguments'] | tojson) + '}</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_ROLES: Final = ("system", "user", "assistant", "tool")
_LONGEST: Final = 1 << 20
_DEEPEST: Final = 32


def own_controls(controls: Controls) -> Controls:
    """`controls` with `OWN` in the place of their chat template."""
    ends = tuple(dict.fromkeys((IM_END, *controls.ends)))
    return Controls(
        document=controls.document,
        begins=controls.begins,
        ends=ends,
        chat_template=OWN,
        named={**controls.named, "eos_token": IM_END},
    )


@final
@dataclass(frozen=True)
class Marked:
    """A conversation to learn from.

    Args:
        tokens: its ids.
        written: for each, whether the assistant wrote it, the token that ends an answer included.
        begins: the places at which answers begin.
    """

    tokens: Sequence[int]
    written: Sequence[bool]
    begins: Sequence[int]


@final
@dataclass(frozen=True)
class _Guarded:
    """A conversation whose texts spell no control token; `back` says what the characters in their place stand for."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any]
    back: dict[int, str]

    def first(self, count: int) -> _Guarded:
        return _Guarded(self.messages[:count], self.tools, self.back)

    @property
    def answers(self) -> list[int]:
        """The numbers of the assistant's messages."""
        return [number for number, message in enumerate(self.messages) if message["role"] == "assistant"]


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}`, by which some templates mark what the assistant wrote: its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


@final
class ChatTemplate:
    """A template and the tokenizer that it writes for.

    Args:
        source: the Jinja template.
        tokenizer: of the same model.
        special: names that templates use, such as {"bos_token": "<s>"}.
        ends: the control tokens that end an answer.

    Raises:
        ProgramError: the template cannot be parsed.
    """

    def __init__(
        self, source: str, tokenizer: Tokenizer, special: Mapping[str, str], ends: Sequence[str] = (IM_END,)
    ) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ProgramError("The chat template cannot be read.", wanted="a Jinja template", got=error) from error
        self._source, self._tokenizer, self._special = source, tokenizer, dict(special)
        controls = sorted(tokenizer.control, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, controls)))
        self._ends = re.compile("|".join(map(re.escape, ends)))
        self._starts = {each[:k] for each in controls for k in range(1, len(each))}
        self._tails = {each[-k:] for each in controls for k in range(1, len(each))}
        self._longest = max(map(len, controls))

    @classmethod
    def of(cls, prep: TextPrep) -> ChatTemplate:
        """The template of a program."""
        return cls(prep.controls.chat_template, prep.tokenizer, prep.controls.named, prep.controls.ends)

    def tokens(self, messages: Sequence[Message], tools: Sequence[Schema] = ()) -> list[int]:
        """Return the ids of a conversation, up to where the assistant's answer begins.

        Raises:
            UsageError: a message or a tool is not understood, or the template refuses the conversation or the tools.
        """
        guarded = self._guard(messages, tools)
        text = self._render(guarded, answers=True)
        return self._encode(text, [cut for _, cut in self._cuts(guarded, text)], guarded.back)[0]

    def marked(self, messages: Sequence[Message], tools: Sequence[Schema] = ()) -> list[Marked]:
        """Return the ids of whole conversations to learn from, and which of them the assistant wrote.

        One row, in which every answer is marked; of a template that rewrites earlier turns a row for each answer, in
        which that one is marked. In either, what stands before an answer is `tokens(messages before it, tools)`.

        Raises:
            UsageError: as `tokens`; or the template does not open an answer as it shows one, or does not end it.
        """
        guarded = self._guard(messages, tools)
        whole = self._marked(guarded, guarded.answers)
        if whole is not None:
            return [whole]
        rows = []
        for number in guarded.answers:
            row = self._marked(guarded.first(number + 1), [number])
            if row is None:
                raise UsageError(
                    "The chat template opens an answer otherwise than it shows one, so that nothing can be learned.",
                    where=f"message {number}",
                    wanted="messages before it, with add_generation_prompt, as the beginning of what it renders",
                    got="another text",
                    do="Mend the template, or start from a program without one.",
                )
            rows.append(row)
        return rows

    def sequel(self, messages: Sequence[Message], tools: Sequence[Schema] = ()) -> list[int] | None:
        """Return the ids that follow the token which ends the last answer in `messages`, up to where a new one begins.

        They go on from an answer as it was written, which the template may write otherwise. None when the template
        rewrites the turns before.

        Raises:
            UsageError: as `tokens`.
        """
        guarded = self._guard(messages, tools)
        text = self._render(guarded, answers=True)
        cuts = dict(self._cuts(guarded, text))
        last = cuts.get(guarded.answers[-1])
        end = None if last is None else self._ends.search(text, last)
        return None if end is None else self._encode(text[end.end() :], [], guarded.back)[0]

    @cached_property
    def end_of_answer(self) -> int:
        """The token with which the template ends an answer."""
        row = self.marked([{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}])[0]
        return max(zip(range(len(row.tokens)), row.tokens, row.written), key=lambda each: (each[2], each[0]))[1]

    @cached_property
    def knows_tools(self) -> bool:
        """Whether the template shows the model which tools there are, what it called, and what came of it."""
        probe = {"type": "function", "function": {"name": "prb1", "description": "prb2", "parameters": {}}}
        call = {"type": "function", "function": {"name": "prb3", "arguments": {"prb4": 1}}}
        said: list[Message] = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "prb5"},
        ]
        try:
            shown = self._render(self._guard(said, [probe], known=True), answers=True)
        except UsageError:
            return False
        return all(f"prb{number}" in shown for number in (1, 3, 4, 5))

    # -- guarding ------------------------------------------------------------------------------------------------

    def _guard(self, messages: Sequence[Message], tools: Sequence[Schema], *, known: bool = False) -> _Guarded:
        """The conversation in plain form with its texts guarded; `known` is for asking whether tools are known."""
        plain = [plain_message(message, number) for number, message in enumerate(messages)]
        if not plain:
            raise UsageError("The conversation is empty.", wanted="at least one message", got="none")
        offered = [plain_tool(tool, number) for number, tool in enumerate(tools)]
        if not known and (offered or any("tool_calls" in message for message in plain)) and not self.knows_tools:
            raise UsageError(
                "This model's chat template knows no tools.",
                wanted="a conversation without tools and calls",
                got=", ".join(str(tool["function"]["name"]) for tool in offered) or "a call",
                do="Teach it with `sw2 train chat`, or choose a model that knows tools.",
            )
        used = set(_written((plain, offered))) | set(self._source)
        free = (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
        back: dict[int, str] = {}

        def guard(text: str) -> str:
            character = next(free)
            back[ord(character)] = text
            return character

        return _Guarded(
            [self._guarded_message(message, guard) for message in plain],
            [{**tool, "function": self._deep(tool["function"], guard)} for tool in offered],
            back,
        )

    def _guarded_message(self, message: Mapping[str, Any], guard: Callable[[str], str]) -> dict[str, Any]:
        """Everything but the role and the keys."""
        new = {key: self._deep(value, guard) for key, value in message.items() if key not in ("role", "tool_calls")}
        new["role"] = message["role"]
        if "tool_calls" in message:
            new["tool_calls"] = [
                {**self._deep({"id": call.get("id", "")}, guard), "type": "function",
                 "function": {key: self._deep(value, guard) for key, value in call["function"].items()}}
                for call in message["tool_calls"]
            ]  # fmt: skip
        return new

    def _deep(self, value: Any, guard: Callable[[str], str]) -> Any:
        if isinstance(value, str):
            return self._guarded(value, guard)
        if isinstance(value, list):
            return [self._deep(each, guard) for each in value]
        if isinstance(value, Mapping):
            return {self._guarded(str(key), guard): self._deep(each, guard) for key, each in value.items()}
        return value

    def _guarded(self, content: str, guard: Callable[[str], str]) -> str:
        content = self._controls.sub(lambda found: guard(found.group()), content)
        # Half a control token at a border could meet its other half in the template or in the next message.
        most = min(self._longest, len(content))
        if end := next((k for k in range(most, 0, -1) if content[-k:] in self._starts), 0):
            content = content[:-end] + guard(content[-end:])
        if start := next((k for k in range(most, 0, -1) if content[:k] in self._tails), 0):
            content = guard(content[:start]) + content[start:]
        return content

    # -- rendering -----------------------------------------------------------------------------------------------

    def _render(self, guarded: _Guarded, *, answers: bool) -> str:
        """The conversation as text; with the opening of an answer if it `answers`."""
        try:
            text = self._template.render(
                messages=guarded.messages,
                tools=guarded.tools or None,
                add_generation_prompt=answers,
                **self._special,
            )
        except Exception as error:  # a template can raise whatever an expression can
            raise UsageError(
                "The model's chat template refuses this conversation.",
                wanted="roles and an order that the model knows",
                got=f"{[message['role'] for message in guarded.messages]}: {error}",
            ) from error
        if len(text) > _LONGEST + 2 * len(_written((guarded.messages, guarded.tools))):
            raise ProgramError(
                "The chat template writes without end.", wanted=f"at most {_LONGEST} characters", got=len(text)
            )
        return text

    def _cuts(self, guarded: _Guarded, text: str) -> list[tuple[int, int]]:
        """Where in `text` answers begin, as (number of the message, place), as far as the template does not rewrite."""
        cuts = []
        for number in guarded.answers:
            prompt = self._render(guarded.first(number), answers=True) if number else ""
            if prompt and text.startswith(prompt):
                cuts.append((number, len(prompt)))
        return cuts

    def _marked(self, guarded: _Guarded, answers: Sequence[int]) -> Marked | None:
        """The conversation with these answers marked; None when the template rewrites one, or what stands before it."""
        text = self._render(guarded, answers=False)
        begins = dict(self._cuts(guarded, text))
        if not set(answers) <= set(begins):
            return None
        places = [*begins.values(), len(text)]
        cuts: list[int] = []
        for number, begin in begins.items():
            cuts.append(begin)
            if number not in answers:
                continue
            end = self._ends.search(text, begin)
            until = min(place for place in places if place > begin or place == len(text))
            if end is None or end.end() > until:
                raise UsageError(
                    "The chat template does not end an answer, so that the model could not learn to stop.",
                    where=f"message {number}",
                    wanted=self._ends.pattern.replace("\\", ""),
                    got=repr(text[begin:until].translate(guarded.back))[-100:],
                )
            # As it was when it was the last message, and the template did not know what would be asked next?
            if number + 1 < len(guarded.messages):
                alone = self._render(guarded.first(number + 1), answers=False)
                if not alone.startswith(text[: end.end()]):
                    return None
            cuts.append(end.end())
        ids, found = self._encode(text, cuts, guarded.back)
        at = iter(found)
        written, starts = [False] * len(ids), []
        for number in begins:
            start = next(at)
            if number in answers:
                starts.append(start)
                stop = next(at)
                written[start:stop] = [True] * (stop - start)
        return Marked(ids, written, starts)

    def _encode(self, text: str, cuts: Sequence[int], back: dict[int, str]) -> tuple[list[int], list[int]]:
        """The ids of `text`, no token reaching over a cut, and how many of them stand before each cut."""
        pieces: list[list[str | int]] = []
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            pieces.append([])
            at = begin
            for found in [*self._controls.finditer(text, begin, end), None]:
                stop = end if found is None else found.start()
                if stop > at:
                    pieces[-1].append(text[at:stop].translate(back))
                if found is not None:
                    pieces[-1].append(self._tokenizer.control[found.group()])
                    at = found.end()
        texts = [each for piece in pieces for each in piece if isinstance(each, str)]
        encoded = iter(self._tokenizer.encode_batch(texts))
        ids: list[int] = []
        places: list[int] = []
        for piece in pieces:
            for each in piece:
                ids += [each] if isinstance(each, int) else next(encoded).tolist()
            places.append(len(ids))
        return ids, places[:-1]


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _written(value: Any) -> str:
    """Nested values in one text."""
    return json.dumps(value, ensure_ascii=False, default=str)


# ------------------------------------------------------------------------------------------------------ what is said


def plain_message(message: Any, number: int) -> dict[str, Any]:
    """A message with the keys that templates use, its calls' arguments as objects.

    Raises:
        UsageError: it is not understood.
    """

    def wrong(got: object) -> UsageError:
        return UsageError(
            "A message is not understood.",
            where=f"message {number}",
            wanted=f'{{"role": "user", "content": "…"}}, the role one of {", ".join(_ROLES)}',
            got=repr(got)[:200],
        )

    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        raise wrong(message)
    calls = message.get("tool_calls") or []
    content = message.get("content")
    if content is None and calls:
        content = ""
    if not isinstance(content, str) or not isinstance(calls, (list, tuple)):
        raise wrong(message)
    plain: dict[str, Any] = {"role": message["role"], "content": content}
    plain |= {key: message[key] for key in ("name", "tool_call_id") if isinstance(message.get(key), str)}
    if calls and message["role"] != "assistant":
        raise wrong(message)
    if calls:
        plain["tool_calls"] = [_plain_call(call, wrong) for call in calls]
    return plain


def _plain_call(call: Any, wrong: Callable[[object], UsageError]) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    name, arguments = (function.get(key) for key in ("name", "arguments")) if isinstance(function, Mapping) else "  "
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise wrong(call) from error
    if not isinstance(name, str) or not isinstance(arguments, Mapping) or _depth(arguments) > _DEEPEST:
        raise wrong(call)
    plain = {"type": "function", "function": {"name": name, "arguments": _lists(arguments)}}
    if isinstance(call.get("id"), str):
        plain["id"] = call["id"]
    return plain


def plain_tool(tool: Any, number: int) -> dict[str, Any]:
    """A tool in OpenAI's form.

    Raises:
        UsageError: it is not understood.
    """
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or _depth(function) > _DEEPEST:
        raise UsageError(
            "A tool is not understood.",
            where=f"tool {number}",
            wanted='{"type": "function", "function": {"name": "…", "description": "…", "parameters": {…}}}',
            got=repr(tool)[:200],
        )
    return {"type": "function", "function": _lists(function)}


def _lists(value: Any) -> Any:
    """The same with lists for tuples and plain dictionaries, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _lists(each) for key, each in value.items()}
    return [_lists(each) for each in value] if isinstance(value, (list, tuple)) else value


def _depth(value: Any, above: int = 0) -> int:
    """How deep values are nested, as far as it matters."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    if above > _DEEPEST:
        return above
    return max((_depth(each, above + 1) for each in inner), default=above)
