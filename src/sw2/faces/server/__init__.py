"""The HTTP face: programs behind the requests that OpenAI's clients send, and a route for every other kind of task.

    a client → Gate ───────────→ routes ────────→ Worker (a thread for each program)
               keys, sizes,       wire formats,    owns the TextEngine or calls the program,
               times, hanging up  one file each    hands pieces back to the loop

Reading order: `wire` (what requests may say), `errors` (what comes back otherwise), `worker`, `gate`, then the routes
(`chat`, with `grounded` for what documents say and the `library` that holds them, `completions`, `embeddings`, `run`,
`operations`), and `app`, which joins them. `sw2 serve` starts it.

Choices
- All that a request holds is freed in one place, the Gate, however the request ends: answered, refused, out of time,
  or because the client hung up.
- What has no effect is refused, by its name. `max_tokens` beyond the context is the exception: it is taken for what
  fits, since clients ask for "as much as possible" that way, and "length" says that the text was cut.
- What was read for one key is not used again for another, which could otherwise find out by asking what was read.
- Without a key only this machine is served, under its own names: a web page elsewhere cannot reach it by a host name of
  its own that points here.

Sources: https://platform.openai.com/docs/api-reference for the forms.

What it does not do: TLS and time limits on headers (a reverse proxy's), several processes.
"""
