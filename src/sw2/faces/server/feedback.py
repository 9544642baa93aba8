"""/v1/feedback: what somebody says about an answer that they got; only where conversations are kept.

    {"id": "chatcmpl-…", "choice": 0, "thumb": "down", "why": "too long", "edit": "a better answer"}

It goes into the log of conversations as one more line: the conversation up to the answer, and the verdict, in the form
that `sw2 chat --log` writes and `sw2 data from-feedback` reads. An answer is known by its id to the key that it was
given to, as long as it is among the last ones (`log.Conversations`), and judged once.
"""

from __future__ import annotations

from fastapi import APIRouter, Request

from sw2.faces.server import wire
from sw2.faces.server.errors import ApiError, bad_request
from sw2.faces.server.gate import held
from sw2.faces.server.log import Conversations
from sw2.verbs.feedback import Verdict

__all__ = ["feedback_router"]


def feedback_router(conversations: Conversations) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/feedback", response_model=wire.FeedbackTaken, tags=["feedback"])
    async def feedback(request: Request, said: wire.Feedback) -> wire.FeedbackTaken:
        """Say what an answer is worth."""
        if said.thumb is None and not said.edit:
            raise bad_request("thumb: this says nothing; give a thumb or an edit.", param="thumb")
        if said.thumb == "up" and said.edit:
            raise bad_request("edit: an answer with its thumb up needs no better one.", param="edit")
        verdict = Verdict(thumb=said.thumb or "", why=said.why or "", edit=said.edit or "")
        found = conversations.judge(said.id, said.choice, held(request.scope).who, verdict)
        if found == "unknown":
            raise ApiError(
                404,
                "There is no such answer among those that this key got lately.",
                param="id",
                code="answer_not_found",
            )
        if found == "judged":
            raise bad_request("id: this answer was judged before.", param="id", code="already_judged")
        return wire.FeedbackTaken(object="feedback", id=said.id, choice=said.choice)

    return router
