"""The frame of a web page: Gradio's page in the server's app, its policy, its style, the form for a key.

    /                redirects to the page
    /studio/         the page; everything that it asks for begins so
    /login           takes a key, where the server has any, and gives a cookie

The page's policy (CSP) names this server alone as the source of everything. Gradio's page needs inline scripts and
makes templates into functions (`unsafe-eval`), so the policy is no second wall against scripts in a text: that is
escaping and the sanitizer. It is the wall against other hosts: an address in a text is never fetched.

Gradio's uploads lie in a folder of their own that ends with the process.
"""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import gradio as gr
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sw2.faces.server.app import Server
from sw2.faces.server.errors import ApiError
from sw2.faces.server.gate import Pages
from sw2.faces.server.keys import COOKIE
from sw2.faces.studio.look import HEAD, stylesheet, theme
from sw2.faces.studio.wall import Wall

__all__ = ["PAGES", "frame"]

PAGES: Final = Pages(prefix="/studio", login="/login")

_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' "
    "blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def frame(server: Server, lay_out: Callable[[], Any], most_bytes: int) -> None:
    """Put a page into a server that has `PAGES`.

    Args:
        server: whose routes it joins.
        lay_out: makes Gradio's blocks.
        most_bytes: of an upload.
    """
    app = server.routes
    uploads = tempfile.TemporaryDirectory(prefix="sw2-studio-")
    os.environ["GRADIO_TEMP_DIR"] = uploads.name
    app.state.uploads = uploads  # as long as the app
    _add_routes(app, server)
    # Gradio makes locks while a page is laid out; without a loop it would make one, and never close it.
    asyncio.run(_mount(app, lay_out, most_bytes))
    app.add_middleware(Wall, prefix=PAGES.prefix, uploads=Path(uploads.name))
    app.add_middleware(_Headers)


async def _mount(app: FastAPI, lay_out: Callable[[], Any], most_bytes: int) -> None:
    gr.mount_gradio_app(
        app,
        lay_out(),
        path=PAGES.prefix,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=most_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        head=HEAD,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )


def _add_routes(app: FastAPI, server: Server) -> None:
    style = functools.cache(stylesheet)

    @app.get("/", include_in_schema=False)
    async def home() -> Response:
        return RedirectResponse(PAGES.prefix + "/", 307)

    @app.get(PAGES.prefix, include_in_schema=False)
    async def slash() -> Response:
        return RedirectResponse(PAGES.prefix + "/", 307)

    @app.get(PAGES.prefix + "/style.css", include_in_schema=False)
    async def css() -> Response:
        return Response(style(), media_type="text/css")

    @app.get(PAGES.login, include_in_schema=False)
    async def form() -> Response:
        return HTMLResponse(_login(""))

    @app.post(PAGES.login, include_in_schema=False)
    async def login(request: Request) -> Response:
        key = parse_qs((await request.body()).decode(errors="replace")).get("key", [""])[0]
        try:
            token = server.keys.begin_session(key, request.headers.get("host", ""))
        except ApiError:
            return HTMLResponse(_login("This key is not known here."), 401)
        answer = RedirectResponse(PAGES.prefix + "/", 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return answer


def _login(fault: str) -> str:
    told = f'<p role="alert" class="tag bad">{escape(fault)}</p>' if fault else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sw2 studio</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><style>'
        f"{stylesheet()}</style></head><body class='login sw2'><form method='post' action='{PAGES.login}'>"
        "<h1>sw2 studio</h1><label for='key'>The key of this server</label>"
        "<input id='key' name='key' type='password' autocomplete='current-password' required autofocus>"
        f"{told}<button>Enter</button></form></body></html>"
    )


class _Headers:
    """Sets what browsers are told of every page, where a route has not said so itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name.lower() for name, _ in message["headers"]}
                wanted = {
                    b"content-security-policy": _POLICY.encode(),
                    b"referrer-policy": b"no-referrer",
                    b"x-content-type-options": b"nosniff",
                }
                fresh = [(name, value) for name, value in wanted.items() if name not in said]
                message = {**message, "headers": [*message["headers"], *fresh]}
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
