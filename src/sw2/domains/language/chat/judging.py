"""Is an answer right? A program is asked what an example asks, and what it says is held against the example's rule.

    "check": {"equals": "42"}                the last message says this and nothing else, white space aside
    "check": {"contains": ["42", "apples"]}  it says all of these, in any case
    "check": {"skill": …}                    by the checker of that skill; see `skills`

A rule is data, not code. What the answer should be is never shown to the program. Where a skill has a customer, the
whole conversation is held with that customer; otherwise the last question is answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sw2.base.errors import DataError, UsageError
from sw2.core.data import Example
from sw2.domains.language.chat.template import Message
from sw2.domains.language.chat.writer import ChatWriter
from sw2.domains.language.skills import checking
from sw2.domains.language.skills.basis import Verdict
from sw2.domains.language.skills.orderbot.talks import simulate_many
from sw2.parts.decoding.sampling import Sampling

__all__ = ["asked", "check_answer", "has_customer", "prompt_of"]

_SIMULATED: Final = {"orderbot": simulate_many}
_AT_ONCE: Final = 32
"""Who are served at once, each in a place of its own, where what was said so far need not be read again. In a round all
wait for the slowest, so that the last of it is written for few. Single questions take it too: 64 of them took a sixth
less time than eight at once."""


def prompt_of(example: Example) -> dict[str, Any]:
    """The conversation up to and with the last message of the user, and the tools: what a program is asked."""
    messages = example["messages"]
    last = max((number for number, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return {"messages": list(messages[: last + 1]), "tools": list(example.get("tools") or ())}


def has_customer(example: Example) -> bool:
    """Whether the example's conversation is held with a simulated customer."""
    return _skill(example) in _SIMULATED


def asked(
    writer: ChatWriter, examples: Sequence[Example], sampling: Sampling, max_tokens: int
) -> list[Sequence[Message]]:
    """Ask a program what each example asks; the whole conversations, in order, as they went.

    Args:
        writer: the program.
        examples: conversations.
        sampling: how tokens are chosen, the same for each.
        max_tokens: the most tokens of a message.

    Returns:
        The messages; up to the question alone where that fills the context.
    """
    went: list[Sequence[Message]] = [()] * len(examples)
    numbers: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        skill = _skill(example)
        numbers.setdefault(skill if skill in _SIMULATED else "", []).append(number)
    for skill, places in numbers.items():
        those = [examples[number] for number in places]
        if skill:
            # All customers of a skill are offered the same tools.
            tools = those[0].get("tools") or ()

            def bots(talks: Sequence[Sequence[Message]], tools: Sequence[Any] = tools) -> list[Sequence[Message]]:
                prompts = [{"messages": talk, "tools": tools} for talk in talks]
                whole = _replies(writer, prompts, sampling, max_tokens)
                silent = [{"role": "assistant", "content": ""}]
                return [after[len(talk) :] or silent for talk, after in zip(talks, whole, strict=True)]

            ended: list[Sequence[Message]] = []
            for first in range(0, len(those), _AT_ONCE):
                ended += _SIMULATED[skill](bots, those[first : first + _AT_ONCE])
        else:
            ended = _replies(writer, [prompt_of(example) for example in those], sampling, max_tokens)
        for number, messages in zip(places, ended, strict=True):
            went[number] = messages
    return went


def _skill(example: Example) -> str:
    rule = example.get("check")
    return str(rule.get("skill", "")) if isinstance(rule, Mapping) else ""


def _replies(
    writer: ChatWriter, prompts: Sequence[Mapping[str, Any]], sampling: Sampling, max_tokens: int
) -> list[Sequence[Message]]:
    """Each conversation answered, or as it was where it fills the context."""
    fitting = []
    for number, prompt in enumerate(prompts):
        try:
            if len(writer.template.tokens(prompt["messages"], prompt["tools"])) < writer.net.config.context:
                fitting.append(number)
        except UsageError:  # a model may have written what its own template refuses
            continue
    replies = writer.reply_many(
        [prompts[number] for number in fitting], [sampling] * len(fitting), max_tokens, at_once=_AT_ONCE
    )
    ended: list[Sequence[Message]] = [prompt["messages"] for prompt in prompts]
    for number, reply in zip(fitting, replies, strict=True):
        ended[number] = reply.messages
    return ended


def check_answer(example: Example, messages: Sequence[Message]) -> Verdict:
    """Judge `messages`, the whole conversation as it went, by the rule of `example`.

    Raises:
        DataError: nobody knows such a rule.
    """
    rule = example["check"]
    said = str(messages[-1]["content"]) if messages and messages[-1]["role"] == "assistant" else ""
    if isinstance(rule, Mapping) and "skill" in rule:
        return checking.check_answer(example, messages)
    if isinstance(rule, Mapping) and isinstance(rule.get("equals"), str):
        right = " ".join(said.split()) == " ".join(rule["equals"].split())
        return Verdict(right, float(right), () if right else (f"other answer: {said[:80]!r}",))
    if isinstance(rule, Mapping) and "contains" in rule:
        wanted = [rule["contains"]] if isinstance(rule["contains"], str) else list(map(str, rule["contains"]))
        missing = [each for each in wanted if each.lower() not in said.lower()]
        share = 1 - len(missing) / max(1, len(wanted))
        return Verdict(not missing, share, tuple(f"missing: {each!r}" for each in missing))
    raise DataError(
        "An answer cannot be checked by this rule.",
        where=example.get("where"),
        wanted='"check": {"equals": text} or {"contains": texts}',
        got=repr(rule)[:200],
    )
