"""The skills by name, the mixture, the overlap, and users' mistakes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UnknownName, UsageError
from sw2.domains.language.skills.basis import assistant, result
from sw2.domains.language.skills.checking import SKILLS, DatasetOptions, check_answer, dataset, examples, overlap


def test_names_and_splits_that_do_not_exist():
    with pytest.raises(UnknownName, match="arithmetic"):
        examples("arithmetics", "train", 0)
    with pytest.raises(UsageError, match="no such split"):
        examples("arithmetic", "dev", 0)
    with pytest.raises(UsageError, match="below zero"):
        dataset("assistant", DatasetOptions(shares={"arithmetic": -1.0}))["train"]


@pytest.mark.parametrize("name", [*SKILLS, "assistant"])
def test_data_sets_are_as_long_as_asked(name):
    made = dataset(name, DatasetOptions(train=30, validation=0, test=10))
    assert {split: len(rows) for split, rows in made.items()} == {"train": 30, "test": 10}
    assert made["train"][0]["messages"][-1]["role"] == "assistant"


@pytest.mark.parametrize("name", ["arithmetic", "assistant", "preferences"])
def test_what_was_learned_from_can_be_left_out(name):
    whole, later = (dataset(name, DatasetOptions(train=n, skip=skip, test=5)) for n, skip in ((30, 0), (12, 18)))
    assert list(later["train"]) == list(whole["train"])[18:]
    assert list(later["test"]) == list(whole["test"])


def test_the_assistant_is_taught_fewer_orders_than_it_is_asked_for():
    made = dataset("assistant", DatasetOptions(train=300, test=300))
    taught, asked = (sum(each["skill"] == "orderbot" for each in made[split]) for split in ("train", "test"))
    assert 0 < taught < asked


def test_of_the_assistants_lessons_those_of_a_menu_follow_each_other():
    made = dataset("assistant", DatasetOptions(train=120, shares={"orderbot": 1.0, "arithmetic": 1.0}))["train"]
    menus = [str(each["check"]["menu"]) for each in made if each["skill"] == "orderbot"]
    assert menus
    assert menus[::2] == menus[1::2]


def test_questions_about_other_documents():
    options = DatasetOptions(train=5, validation=0, test=0, documents="email")
    assert all("email." in str(each["check"]["name"]) for each in dataset("documentation", options)["train"])
    with pytest.raises(UsageError, match="no such documentation"):
        dataset("assistant", DatasetOptions(documents="nosuchpackage"))


def test_the_mixture_keeps_to_its_shares():
    options = DatasetOptions(train=300, shares={"arithmetic": 1.0})
    assert {example["skill"] for example in dataset("assistant", options)["train"]} == {"arithmetic"}


@pytest.mark.parametrize("skill", SKILLS)
def test_the_overlap_of_train_and_test(skill):
    train, test = examples(skill, "train", 0, 200), examples(skill, "test", 0, 60)
    found = overlap(train, test)
    assert found.equal == 0
    same = overlap(train, train[:10])
    assert (same.asked, same.answered, same.equal) == (1.0, 1.0, 10)
    assert "four-grams" in str(found)


# What a model writes that has lost its way: numbers and signs without end, halves of JSON, anything.
DIGITS = st.builds(str.__mul__, st.text(st.sampled_from("0123456789"), min_size=1, max_size=9), st.integers(1, 40))
LOST = st.one_of(
    st.tuples(DIGITS, DIGITS).map(lambda both: f"It is {both[0]}.{both[1]}"),
    st.text(st.sampled_from("0123456789.,-+*/()= "), max_size=60).map(lambda text: text * 9),
    st.text(st.sampled_from('{}[]":,.0123456789eE-+ truefalsn\n'), max_size=80),
    st.text(max_size=80),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
        max_leaves=8,
    ).map(json.dumps),
)
ARGUMENTS = st.one_of(
    LOST,
    LOST.map(lambda text: json.dumps({"expression": text})),
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(st.none(), st.floats(), st.integers(), LOST, st.lists(LOST, max_size=2))
            for name in ("total", "mode", "address", "payment", "items")
        },
    ).map(json.dumps),
    st.lists(
        st.dictionaries(
            st.sampled_from(["item", "quantity", "size", "extras"]), st.one_of(st.none(), LOST), max_size=4
        ),
        max_size=2,
    ).map(lambda items: json.dumps({"items": items, "total": "1e999999"})),
)


@pytest.mark.parametrize("skill", SKILLS)
@settings(max_examples=120, deadline=None)
@given(text=LOST, name=st.sampled_from(["calculator", "place_order", "other"]), arguments=ARGUMENTS, said=LOST)
def test_no_answer_breaks_a_checker(skill, text, name, arguments, said):
    example = examples(skill, "test", 0, 3)[2]
    last = max(at for at, message in enumerate(example["messages"]) if message["role"] == "user")
    called = {
        "role": "assistant",
        "content": text,
        "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}],
    }
    for went in ([assistant(text)], [called], [called, result(said), assistant(said)]):
        verdict = check_answer(example, [*example["messages"][: last + 1], *went])
        assert 0 <= verdict.score <= 1
