"""What comes back when a request cannot be answered: OpenAI's form, and a status that its clients know.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

    status  type                    raised by openai-python as    when
    400     invalid_request_error   BadRequestError               malformed, out of range, not supported, too long
    401     authentication_error    AuthenticationError           no key, or a wrong one
    403     permission_error        PermissionDeniedError         a host name that is not this machine's
    404     invalid_request_error   NotFoundError                 an unknown path or model
    405     invalid_request_error   APIStatusError                a path that is there, with another method
    408     timeout_error           APIStatusError                the body did not come in time
    413     invalid_request_error   APIStatusError                the body is too large
    429     rate_limit_error        RateLimitError                the queue is full, or a key has too many at once
    500     server_error            InternalServerError           a mistake of ours, or a damaged program
    503     server_error            InternalServerError           the server is going down
    504     timeout_error           InternalServerError           the answer took too long

A time-out and a mistake of ours say `x-should-retry: false`: to ask again would double the load and give the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import JSONResponse

from sw2.base.errors import DataError, Sw2Error, UsageError

__all__ = ["ApiError", "api_error_of", "bad_request", "first_fault"]

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP, see the table above.
        message: what is wrong and what to do, for people.
        param: the part of the request that it is about, such as "messages[0].role".
        code: a word for programs.
        headers: further ones.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        if status in (500, 504):
            self.headers["x-should-retry"] = "false"

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's form."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The same as an answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """The error for a request that its sender can put right."""
    return ApiError(400, message, param=param, code=code)


def api_error_of(error: Exception, *, param: str | None = None) -> ApiError:
    """Any error as one of the table; the one border where those of sw2 are mapped.

    A user's mistake is told whole; of what is damaged here that it is, and not where. Of a mistake of ours nothing is
    told but that it is one: its text may hold what another user wrote. The error itself is the cause of what is told,
    for the log.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, (UsageError, DataError)):
        return bad_request(str(error), param=param)
    if isinstance(error, Sw2Error):
        return ApiError(500, error.message)
    refusal = ApiError(500, "The server made a mistake; its log says which.", code="internal_error")
    refusal.__cause__ = error
    return refusal


def first_fault(faults: Sequence[Any]) -> ApiError:
    """The first of pydantic's faults, with its place written as in JavaScript.

    >>> error = first_fault([{"type": "missing", "loc": ("body", "messages", 0, "role"), "msg": "Field required"}])
    >>> error.param, error.message
    ('messages[0].role', 'messages[0].role: Field required')
    """
    fault = faults[0]
    param = ""
    for step in fault["loc"][1:]:
        if isinstance(step, int):
            param += f"[{step}]"
        elif step.isidentifier():  # the names of the alternatives of a union are none
            param += f".{step}" if param else step
    message, code = str(fault["msg"]), None
    if fault["type"] == "extra_forbidden":
        message, code = (
            "there is no such parameter here, and it would have no effect; leave it out",
            "unknown_parameter",
        )
    elif fault["type"] == "missing" and not param:
        message = "the body is empty, or its content-type is not application/json"
    elif fault["type"] == "model_attributes_type":
        message = "the body must be a JSON object, sent with the content-type application/json"
    return bad_request(f"{param}: {message}" if param else message, param=param or None, code=code)
