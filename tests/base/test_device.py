"""The machine: devices by name, and a quick choice of precision."""

from __future__ import annotations

import mmap
import time

import pytest
import torch

from sw2.base.device import choose_device, choose_precision, memory_told, peak_memory, reset_peak_memory
from sw2.base.errors import ResourceError, UsageError


def test_devices_by_name() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("cpu:0") == torch.device("cpu:0")
    assert choose_device().type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["tpu", "cpu:x", "cpu:1", "cuda:99", "", ":0"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="This machine has no device"):
        choose_device(name)


def test_precision_is_chosen_quickly_and_says_why() -> None:
    """Also where bf16 is emulated and one product takes half a second: then one is enough."""
    began = time.process_time()
    chosen = choose_precision(torch.device("cpu"))
    assert time.process_time() - began < 3
    assert chosen.name in ("bf16", "fp32")
    assert "times as fast as fp32" in chosen.reason
    assert choose_precision(torch.device("cpu")) is chosen  # measured once, so that two trainings agree


def test_peak_memory_counts_what_was_there_for_a_moment() -> None:
    reset_peak_memory()
    before = peak_memory()
    # Pages of its own: an array may be given some that this process has freed and kept, which are counted already.
    with mmap.mmap(-1, 100 << 20) as block:
        block[::4096] = b"1" * (25 << 10)
    assert peak_memory() - before > 80e6


def test_memory_that_runs_out_is_told() -> None:
    with pytest.raises(ResourceError, match="not enough memory for 3 whales") as caught, memory_told("3 whales", 2**62):
        pytest.fail("it began")
    assert "GB free" in str(caught.value)
    with pytest.raises(ResourceError, match="not enough memory for a whale"), memory_told("a whale", do="Shrink it."):
        torch.empty(2**62, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="something else"), memory_told("a whale"):
        raise RuntimeError("something else")
