"""What a browser may name in what it sends to the page: files that it uploaded, and nothing else.

Gradio takes a file in a message as an object with a path, which it copies to where browsers can fetch it. Mounted in
another app it does not look where that path leads, and fetches one that is an address. A message may also hold one of
its components, made anew with arguments of the sender's. None of these is ever sent by our pages but the paths of
uploads, so that everything else is refused before Gradio sees it.

What it does not do: look into texts. A path or an address in one is letters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sw2.faces.server.errors import ApiError, bad_request

__all__ = ["Wall", "check_sent"]


def check_sent(value: Any, uploads: Path) -> None:
    """Refuse a JSON value that names a file which is not below `uploads`, or one of Gradio's components.

    Raises:
        ApiError: 400.
    """
    if isinstance(value, Mapping):
        if "path" in value and not _uploaded(value["path"], uploads):
            raise bad_request("Only files that were uploaded to this page can be named.", code="foreign_file")
        if "component" in value or "constructor_args" in value:
            raise bad_request("A message of this page is text.", code="foreign_message")
        for each in value.values():
            check_sent(each, uploads)
    elif isinstance(value, list):
        for each in value:
            check_sent(each, uploads)


def _uploaded(path: Any, uploads: Path) -> bool:
    try:
        return Path(path).resolve().is_relative_to(uploads.resolve())
    except (OSError, TypeError, ValueError, RuntimeError):  # no text, too long, a zero byte, a loop of links
        return False


@final
class Wall:
    """An ASGI app around another; what is sent to paths that begin with `prefix` is looked at first.

    Args:
        app: the other one.
        prefix: of the page's paths.
        uploads: where Gradio keeps what was uploaded.
    """

    def __init__(self, app: ASGIApp, prefix: str, uploads: Path) -> None:
        self._app, self._prefix, self._uploads = app, prefix, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        looked_at = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(self._prefix)
        if not looked_at or scope["path"].endswith("/upload"):
            await self._app(scope, receive, send)
            return
        parts, more = [], True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body, given = b"".join(parts), False
        try:
            check_sent(_value(body), self._uploads)
        except (ApiError, RecursionError) as error:
            refusal = error if isinstance(error, ApiError) else bad_request("The message is nested too deep.")
            await refusal.response()(scope, receive, send)
            return

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def _value(body: bytes) -> Any:
    """What a body says; None where it is no JSON, which Gradio refuses."""
    try:
        return json.loads(body)
    except ValueError:
        return None
