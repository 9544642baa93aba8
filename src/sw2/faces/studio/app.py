"""The studio as one app: the server's routes, the page under /studio, the form for a key, the reports.

    /                redirects to the page
    /studio/         the page; everything that it asks for begins so
    /studio/report   a run's report, which is a page of its own and may run nothing
    /login           takes a key, where the server has any, and gives a cookie
    /v1/…            the server's, for what was opened in the page

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
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

# Before Gradio is imported, which reads them then.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sw2.base.errors import DataError
from sw2.catalog import Catalog
from sw2.faces.server.app import Server, Settings
from sw2.faces.server.errors import ApiError
from sw2.faces.server.gate import Pages
from sw2.faces.server.keys import COOKIE
from sw2.faces.server.log import Lines
from sw2.faces.studio.chat_page import chat_page
from sw2.faces.studio.data_page import data_page
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.look import HEAD, stylesheet, theme
from sw2.faces.studio.programs_page import programs_page
from sw2.faces.studio.prompts_page import prompts_page
from sw2.faces.studio.runs_page import runs_page
from sw2.faces.studio.wall import Wall

__all__ = ["PAGES", "studio"]

PAGES: Final = Pages(prefix="/studio", login="/login")

_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' "
    "blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_REPORT_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


def studio(root: Path, catalog: Catalog, settings: Settings, lines: Lines, feedback: Path | None = None) -> Server:
    """The server of a folder's studio.

    Args:
        root: the folder.
        catalog: names of tasks, data sets and programs.
        settings: of the server, with `PAGES`.
        lines: the log.
        feedback: the file that thumbs go into; None keeps nothing, and the page offers none.

    Raises:
        UsageError: `feedback` is there and is no log of conversations.
        DataError: `root` is no folder.
    """
    if not root.is_dir():
        raise DataError("There is no such folder.", where=root, wanted="a folder", got="a file or nothing")
    server = Server({}, settings, lines)
    desk = Desk(root, catalog, server, feedback)
    uploads = tempfile.TemporaryDirectory(prefix="sw2-studio-")
    os.environ["GRADIO_TEMP_DIR"] = uploads.name
    app = server.routes
    app.state.uploads = uploads  # as long as the app
    _add_routes(app, server, desk)
    # Gradio makes locks while a page is laid out; without a loop it would make one, and never close it.
    asyncio.run(_mount(app, desk, settings.limits.body_bytes))
    app.add_middleware(Wall, prefix=PAGES.prefix, uploads=Path(uploads.name))
    app.add_middleware(_Headers)
    return server


async def _mount(app: FastAPI, desk: Desk, most_bytes: int) -> None:
    gr.mount_gradio_app(
        app,
        _blocks(desk),
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


def _blocks(desk: Desk) -> Any:
    with gr.Blocks(title=f"sw2 studio · {desk.root.resolve().name}", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            f'<div class="sw2 head"><p><b>sw2 studio</b> <span>{escape(desk.root.resolve().name)}</span></p></div>',
            apply_default_css=False,
        )
        with gr.Tabs(elem_id="pages") as tabs:
            with gr.Tab("Programs", id="programs") as programs_tab:
                shelf, draw_shelf = programs_page(desk)
            with gr.Tab("Chat", id="chat") as chat_tab:
                talker, offer_talkers = chat_page(desk)
            with gr.Tab("Prompts", id="prompts") as prompts_tab:
                written, offer_written = prompts_page(desk)
            with gr.Tab("Runs", id="runs") as runs_tab:
                choices, offer_runs, timer = runs_page(desk)
            with gr.Tab("Data", id="data") as data_tab:
                data_page(desk)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        gr.on([page.load, programs_tab.select], draw_shelf, None, shelf, **quiet)
        chat_tab.select(offer_talkers, talker, talker, **quiet)
        prompts_tab.select(offer_written, written, written, **quiet)
        runs_tab.select(offer_runs, list(choices), list(choices), **quiet)
        runs_tab.select(lambda: gr.Timer(active=True), None, timer, queue=False, **quiet)
        gr.on(
            [programs_tab.select, chat_tab.select, prompts_tab.select, data_tab.select],
            lambda: gr.Timer(active=False),
            None,
            timer,
            queue=False,
            **quiet,
        )

        def talk(event: gr.EventData) -> tuple[Any, Any]:
            if event.act != "chat":
                return gr.skip(), gr.skip()
            return gr.Tabs(selected="chat"), gr.Dropdown(choices=offer_talkers(None).choices, value=str(event.program))

        shelf.click(talk, None, [tabs, talker], **quiet).then(
            None, None, None, js="() => { if (!document.getElementById('form')?.offsetParent) window.scrollTo(0, 0); }"
        )
    page.queue(default_concurrency_limit=16, max_size=256, api_open=False)
    return page


def _add_routes(app: FastAPI, server: Server, desk: Desk) -> None:
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

    @app.get(PAGES.prefix + "/report", include_in_schema=False)
    def report(run: str) -> Response:
        page = desk.shelf().run(run) / "report.html"
        if not page.is_file() or page.is_symlink():
            raise ApiError(404, f"The run '{run}' has no report yet.", code="no_report")
        return HTMLResponse(page.read_text(encoding="utf-8"), headers={"content-security-policy": _REPORT_POLICY})

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
