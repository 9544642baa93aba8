"""Conversations: programs that answer a person, and call tools on the way.

What is asked: `chat`, a conversation in, the assistant's next message out.

Reading order: `task` (what is asked, judging), `template` (a conversation as tokens, and which of them the assistant
wrote), `tools` (what a model may call, and how a call is written), `writer` (answering, many conversations at once),
`conversations` and `named` (where examples come from), `judging` (is an answer right?), `objective` (how it learns),
`presets` (which settings, and why).
"""
