"""The studio as one app: the server's routes, the page under /studio, the reports of runs.

/studio/         the page (see `frame`)
/studio/report   a run's report, which is a page of its own and may run nothing
/v1/…            the server's, for what was opened in the page
"""

from __future__ import annotations

from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Final

import gradio as gr
from starlette.responses import HTMLResponse, Response

from sw2.base.errors import DataError
from sw2.catalog import Catalog
from sw2.faces.server.app import Server, Settings
from sw2.faces.server.errors import ApiError
from sw2.faces.server.log import Lines
from sw2.faces.studio.chat_page import chat_page
from sw2.faces.studio.data_page import data_page
from sw2.faces.studio.desk import Desk
from sw2.faces.studio.frame import PAGES, frame
from sw2.faces.studio.programs_page import programs_page
from sw2.faces.studio.prompts_page import prompts_page
from sw2.faces.studio.runs_page import runs_page

__all__ = ["studio"]

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
    _add_report(server, desk)
    frame(server, partial(_blocks, desk), settings.limits.body_bytes)
    return server


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


def _add_report(server: Server, desk: Desk) -> None:
    @server.routes.get(PAGES.prefix + "/report", include_in_schema=False)
    def report(run: str) -> Response:
        page = desk.shelf().run(run) / "report.html"
        if not page.is_file() or page.is_symlink():
            raise ApiError(404, f"The run '{run}' has no report yet.", code="no_report")
        return HTMLResponse(page.read_text(encoding="utf-8"), headers={"content-security-policy": _REPORT_POLICY})
