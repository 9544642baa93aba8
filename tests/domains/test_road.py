"""The stages of the chain `assistant`: which there are for which data, and what each is compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sw2.base.errors import DataError, UnknownName
from sw2.catalog import catalog
from sw2.core.domain import ChainRequest, Stage
from sw2.core.task import Context
from sw2.domains.language import road


def stages(data: Any, **more: Any) -> dict[str, Stage]:
    return {stage.name: stage for stage in road.stages(ChainRequest(data=str(data), preset="small", **more))}


def talks(path: Path, **more: Any) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}], **more}
        for n in range(20)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_from_nothing_and_from_weights() -> None:
    rasa = stages("arithmetic")
    assert list(rasa)[:4] == ["pretrain", "sft", "reward", "dpo"]
    assert rasa["sft"].start == "pretrain"
    assert "prep.digits=single" in rasa["pretrain"].settings
    assert (rasa["sft-more"].start, rasa["sft-more"].share) == ("sft", rasa["dpo"].share)
    transfer = stages("arithmetic", parent="smollm2-135m-instruct")
    assert list(transfer) == [name for name in rasa if name != "pretrain"]
    assert transfer["sft"].start == ""
    assert not any("context" in setting for stage in transfer.values() for setting in stage.settings)


def test_there_is_as_much_to_learn_as_minutes_can_read_and_other_questions_to_try() -> None:
    def told(key: str, **more: Any) -> dict[str, str]:
        found = stages("arithmetic", **more)
        return {name: text for name, stage in found.items() for text in stage.settings if key in text}

    smol = "smollm2-135m-instruct"
    for minutes, parent, count in (
        (None, "", 4000),
        (5.0, "", 10_000),
        (600.0, "", 20_000),
        (5.0, smol, 4000),
        (60.0, smol, 6000),
    ):
        assert told("data.train=", minutes=minutes, parent=parent) == dict.fromkeys(
            ("sft", "sft-more"), f"data.train={count}"
        )
        assert told("data.skip=", minutes=minutes, parent=parent) == dict.fromkeys(
            ("ppo", "grpo"), f"data.skip={count}"
        )


@pytest.mark.parametrize("data", ["arithmetic", "assistant"])
def test_settings_name_what_there_is(data: str) -> None:
    """Each stage reads its data with its settings, and the pairs are those of the skill."""
    from sw2.base.config import apply_settings

    for stage in stages(data).values():
        task = catalog().task(stage.task)
        own = [text for text in stage.settings if text.startswith("data.")]
        options = apply_settings({"data": task.Options()}, own)["data"]
        assert stage.objective in ("", *catalog().task_entry(stage.task).objectives)
        if stage.data == "preferences" and data == "arithmetic":
            few = apply_settings({"data": options}, ["data.train=8", "data.validation=0", "data.test=0"])["data"]
            read = task.read(stage.data, few, Context())
            assert {example["skill"] for example in read.split("train")} == {"arithmetic"}


def test_own_conversations_bring_their_pairs_or_have_none(tmp_path: Path) -> None:
    plain = stages(talks(tmp_path / "plain.jsonl"))
    assert list(plain) == ["pretrain", "sft"]
    own = talks(tmp_path / "pairs.jsonl", rejected="no")
    paired = stages(own)
    assert paired["reward"].data == paired["dpo"].data == str(own)
    assert paired["dpo"].settings == ()
    with pytest.raises(UnknownName, match="Did you mean 'arithmetic'"):
        stages("arithmetc")
    with pytest.raises(DataError, match="no such conversations"):
        stages(tmp_path / "nowhere.jsonl")


def test_other_ways_to_prefer_need_one_line_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    entry = road.DOMAIN.tasks["chat"]
    tasks = {**road.DOMAIN.tasks, "chat": replace(entry, objectives=("chat", "dpo", "grpo", "ppo"))}
    monkeypatch.setattr(road, "DOMAIN", replace(road.DOMAIN, tasks=tasks))
    found = stages("arithmetic")
    assert list(found)[-4:] == ["dpo", "ppo", "grpo", "sft-more"]
    assert found["ppo"].uses == {"reward": "reward"}
    assert found["grpo"].data == "arithmetic"
    assert found["sft-more"].beside == ("dpo", "ppo", "grpo")
