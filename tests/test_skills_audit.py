"""The checkers of the skills against people: answers judged by hand, as many right as subtly wrong.

A file of `skills_audit/` holds, under the facts of an example ("# "), answers with the judgement of a person: "+ "
right, "- " wrong. The agreement that `src/sw2/domains/language/skills/README.md` states is held here; a checker that
gets worse fails, and one that gets better has to say so there.
"""

import json
from pathlib import Path

import pytest

from sw2.domains.language.skills.basis import assistant, call, result, user
from sw2.domains.language.skills.checking import check_answer

FOLDER = Path(__file__).parent / "skills_audit"
# Judgements, agreement, wrong answers that pass.
AGREEMENT = {
    "arithmetic": (100, 99, 1),
    "orderbot": (100, 100, 0),
    "documentation": (100, 97, 0),
    "documentation_fresh": (44, 39, 2),
    "records": (100, 99, 0),
}


def _said(facts, answer):
    skill = facts["skill"]
    if skill == "arithmetic":
        expression, _, text = (part.strip() for part in answer.partition("=> "))
        calls = [call("calculator", {"expression": expression}), result("")] if expression else []
        return [user(facts["question"]), *calls, assistant(text)]
    if skill == "orderbot" and answer.startswith("{"):
        placed = {"type": "function", "function": {"name": "place_order", "arguments": answer}}
        return [user("by hand"), {**assistant("Thank you!"), "tool_calls": [placed]}]
    return [user("by hand"), assistant(answer.replace("\\n", "\n"))]


def _judgements(name):
    facts = {}
    for line in (FOLDER / f"{name}.txt").read_text("utf-8").splitlines():
        mark, text = line[:2].strip(), line[2:]
        if mark == "#":
            facts = json.loads(text)
        else:
            yield mark == "+", check_answer({"check": facts}, _said(facts, text)).passed


@pytest.mark.parametrize("name", AGREEMENT)
def test_checkers_agree_with_people_as_stated(name):
    judged = list(_judgements(name))
    agree = sum(person == checker for person, checker in judged)
    too_kind = sum(checker and not person for person, checker in judged)
    assert (len(judged), agree, too_kind) == AGREEMENT[name]
    assert 0.4 < sum(person for person, _ in judged) / len(judged) < 0.6
