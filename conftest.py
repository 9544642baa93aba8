"""What every test stands on: a home of its own, a seed of its own, one thread, no network.

pytest reads this file for the tests in `tests/` and for those beside the domains in `src/` alike.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before anything imports torch, and inherited by subprocesses: one thread, so that sums have one order and two test
# processes do not fight for two cores.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from sw2.testing.shapes import check_names_in  # noqa: E402 (it imports torch)

check_names_in("sw2.parts", "sw2.domains")

settings.register_profile("sw2", deadline=None, max_examples=40, derandomize="CI" in os.environ)
settings.load_profile("sw2")

_SLOW_SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests get a longer time limit unless they name their own."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_SECONDS))


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `SW2_HOME` for this test, and no hub, proxy or index for it or its subprocesses."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SW2_HOME", str(home))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The torch path is the reference. Tests of the native one switch it on; others need not wait for a compiler.
    monkeypatch.setenv("SW2_NATIVE", "off")
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(autouse=True)
def own_seed(request: pytest.FixtureRequest) -> int:
    """Global generators seeded by the test's name: the same draws alone, in any order and in any process."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
        sys.modules["torch"].set_num_threads(1)
    return seed


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine fails the test that makes it."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"a test tried to reach {address}; tests use no network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
