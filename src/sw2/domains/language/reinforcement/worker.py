"""A user's reward function, in a process of its own: it may raise, hang or print without harm.

    python -m sw2.domains.language.reinforcement.worker MODULE:FUNCTION

One JSON object a line: {"messages", "example"} in, {"reward"} or {"error"} out; {"ready"} first. What the function
prints goes to the standard error. The function is called `function(messages, example)` and returns a number.

Imports nothing of sw2, so that it starts at once.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Answer until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    module, _, name = sys.argv[1].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except BaseException as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            reward = float(function(asked["messages"], asked["example"]))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
        else:
            say({"reward": reward})


if __name__ == "__main__":
    main()
