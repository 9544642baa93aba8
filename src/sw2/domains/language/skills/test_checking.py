"""The skills by name, the mixture, the overlap, and users' mistakes."""

import pytest

from sw2.base.errors import UnknownName, UsageError
from sw2.domains.language.skills.checking import SKILLS, DatasetOptions, dataset, examples, overlap


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
