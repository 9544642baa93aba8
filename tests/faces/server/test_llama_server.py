"""An exported program behind a llama.cpp server gives the tokens that it gives behind ours, to the same client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sw2.core.program import Program

PEER = "SW2_LLAMA_PYTHON"
"""Names the interpreter of an environment that has llama-cpp-python with its server."""


@pytest.mark.slow
def test_a_llama_cpp_server_gives_the_same_tokens(tmp_path: Path, random_program: Program) -> None:
    here = sys.executable if find_spec("llama_cpp") else "" if shutil.which("llama-server") else None
    peer = os.environ.get(PEER, here)
    if peer is None:
        pytest.skip(
            "no llama.cpp server: neither `llama-server` nor, here or in the environment whose interpreter "
            f"{PEER} names, llama-cpp-python[server] (half an hour of compiling, so no extra has it)"
        )
    random_program.save(tmp_path / "talker")
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "llama_server.py"
    command = [sys.executable, str(script), str(tmp_path / "talker"), "--peer-python", peer, "--tokens", "16", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)["compared"]
    assert len(found) == 16
    assert all(each["tokens"] for each in found)
    # Where they part at all, it is rounding: the two best are as good as equal there.
    assert sum(each["parts"] is None for each in found) >= 15, found
