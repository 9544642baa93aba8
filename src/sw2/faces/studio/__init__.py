"""The studio: a web page of every program and run in a folder, in the same FastAPI app as the server's routes.

    DIR ──verbs.shelf──→ Desk ──→ programs   a card each; a form by the kind of input, answers by the kinds of outputs
                          │       chat       streams from the program's worker, as /v1/chat/completions does; sources
                          │       prompts    verbs.evaluate and verbs.compare on texts as they stand (bench)
                          │       runs       verbs.curves and verbs.report, again while events are written
                          │       rows       verbs.show
                          └─opened programs are the server's: one engine for the page and for clients of /v1

    FOLDER ──verbs.labelling──→ label_page        the page of `sw2 label serve`, which stands alone

Reading order: `desk` (what the pages share), `fields` (one widget for each kind), `sources` (of answers), `bench`
(where texts are tried), the five pages, `label_page`, `look`, `wall` (what may be sent), `frame` (what every page
stands in), and `app`, which joins the five. `sw2 studio` starts it.

Choices
- Gradio draws the page. Everything that is shown is made by functions from values to HTML that know nothing of it.
- No other host is contacted: the theme's fonts are the system's, analytics are off, and the page's own policy (CSP)
  lets a browser ask nobody but this server, whatever stands in a text that is shown.
- All that users, models and data say is escaped, or goes through Gradio's sanitizer (Markdown in a chat).
- What a browser sends names a program or run that was found, a path that is held inside DIR, or what it uploaded
  (`wall`: Gradio alone would read any file, and fetch any address, that a message names).

What it does not do: train, edit a data set, remember conversations (thumbs are kept, where they are given).
"""

from __future__ import annotations

import os

# Gradio reads them when it is imported, which is after this.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
