"""How the studio looks: the colours and letters of the report pages, in Gradio's theme and in a style sheet.

The page is light or dark as the reader's system is. No font is fetched; the system's own are used. Charts have the
classes of `report.css`, which is served inside `@scope`, so that it reaches only what is drawn by our own functions.

Gradio puts the HTML that it shows through a template. `fragment` spells the signs that mean something there as
character references, which a browser shows the same.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import gradio as gr

__all__ = ["HEAD", "fragment", "stylesheet", "theme"]

HEAD: Final = (
    '<link rel="stylesheet" href="/studio/style.css"><link rel="icon" href="data:image/svg+xml,'
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' "
    "fill='%232467c8'/%3E%3Cpath d='M3 4c4 0 3 8 10 8' fill='none' stroke='white' stroke-width='2'/%3E%3C/svg%3E\">"
)

_LETTERS: Final = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Liberation Sans",
    "sans-serif",
)
_CODE: Final = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

# (light, dark), as in report.css
_PAGE, _CARD, _INK = ("#f6f5f1", "#121211"), ("#ffffff", "#1b1b19"), ("#16150f", "#f3f2ec")
_SOFT, _MUTE, _LINE = ("#55534b", "#c3c1b6"), ("#6f6d64", "#9b998e"), ("#e4e2da", "#32312d")
_MAIN, _WASH = ("#2467c8", "#6ea6f5"), ("#f2f1ec", "#242421")


def theme() -> Any:
    """Gradio's theme in our colours."""
    made = gr.themes.Base(
        primary_hue="blue",
        neutral_hue="stone",
        font=[gr.themes.Font(name) for name in _LETTERS],
        font_mono=[gr.themes.Font(name) for name in _CODE],
        radius_size="lg",
        text_size="md",
    )
    pairs = {
        "body_background_fill": _PAGE,
        "body_text_color": _INK,
        "body_text_color_subdued": _MUTE,
        "background_fill_primary": _CARD,
        "background_fill_secondary": _WASH,
        "border_color_primary": _LINE,
        "border_color_accent": _MAIN,
        "color_accent_soft": _WASH,
        "link_text_color": _MAIN,
        "link_text_color_hover": _MAIN,
        "link_text_color_active": _MAIN,
        "link_text_color_visited": _MAIN,
        "block_background_fill": _CARD,
        "block_border_color": _LINE,
        "block_label_text_color": _MUTE,
        "block_title_text_color": _SOFT,
        "block_info_text_color": _MUTE,
        "panel_background_fill": _PAGE,
        "accordion_text_color": _INK,
        "input_background_fill": _CARD,
        "input_background_fill_focus": _CARD,
        "input_border_color": _LINE,
        "input_border_color_focus": _MAIN,
        "input_placeholder_color": _MUTE,
        "button_primary_background_fill": _MAIN,
        "button_primary_background_fill_hover": ("#1d57a8", "#8db9f0"),
        "button_primary_text_color": ("#ffffff", "#0d1b2e"),
        "button_secondary_background_fill": _CARD,
        "button_secondary_background_fill_hover": _WASH,
        "button_secondary_border_color": _LINE,
        "button_secondary_text_color": _INK,
        "code_background_fill": _WASH,
    }
    return made.set(
        **{name: light for name, (light, _) in pairs.items()},
        **{f"{name}_dark": dark for name, (_, dark) in pairs.items()},
        color_accent="var(--sw2-main)",
        block_shadow="none",
        block_border_width="1px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        input_shadow="none",
        input_shadow_focus="none",
        button_transform_hover="none",
        button_transform_active="none",
    )


def fragment(html: str) -> str:
    """HTML for `gr.HTML`, in which nothing is a template."""
    return html.replace("$", "&#36;").replace("{", "&#123;").replace("`", "&#96;")


def stylesheet() -> str:
    """The style sheet of the studio, that of the report pages inside."""
    report = files("sw2.verbs").joinpath("report.css").read_text("utf-8").replace(":root {", ":scope {")
    own = files("sw2.faces.studio").joinpath("studio.css").read_text("utf-8")
    return f"@scope (.sw2) {{\n{report}\n}}\n{own}"
