"""Conversations: programs that answer a person, and call tools on the way.

What is asked: `chat`, a conversation in, the assistant's next message out.

Reading order: `template` (a conversation as tokens, and which of them the assistant wrote), `tools` (what a model may
call, and how a call is written), `writer` (answering, many conversations at once), `conversations` (where examples come
from).
"""
