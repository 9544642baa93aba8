"""What is served, and how the server is: /v1/models, /healthz, /readyz, /metrics.

`/healthz` says that the process answers, and what goes on with its documents; `/readyz` whether it takes work: 503
while it goes down, when a thread has died, or before the documents were read once. Neither needs a key.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from sw2.faces.server import wire
from sw2.faces.server.library import Library
from sw2.faces.server.metrics import CONTENT_TYPE, Metrics
from sw2.faces.server.programs import Programs, Served

__all__ = ["operations_router"]


def operations_router(
    programs: Programs, metrics: Metrics, draining: Callable[[], bool], library: Library | None
) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["operations"])

    @router.get("/v1/models", response_model=wire.ModelList, response_model_exclude_unset=True)
    async def models() -> wire.ModelList:
        """What is served."""
        return wire.ModelList(object="list", data=[_card(each) for each in programs.all()])

    @router.get("/v1/models/{model}", response_model=wire.ModelCard, response_model_exclude_unset=True)
    async def model(model: str) -> wire.ModelCard:
        """One of them."""
        return _card(programs[model])

    @router.get("/healthz", response_class=JSONResponse)
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"} if library is None else {"status": "ok", "documents": library.state}

    @router.get("/readyz", response_class=JSONResponse, responses={503: {"description": "Takes no work."}})
    async def ready() -> Response:
        """Whether the server takes work."""
        status = "ready"
        if draining():
            status = "draining"
        elif not programs.alive():
            status = "a worker has died"
        elif library is not None and not library.alive():
            status = "what keeps the documents up to date has died"
        elif library is not None and not library.read:
            status = f"documents: {library.state}"
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics_text() -> Response:
        """Metrics in Prometheus' text form."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


def _card(served: Served) -> wire.ModelCard:
    writer = served.writer
    card = wire.ModelCard(
        id=served.name,
        object="model",
        created=served.created,
        owned_by="sw2",
        task=served.program.task.name,
        capabilities=served.program.capabilities(),
    )
    if writer is not None:
        card.context = writer.context
    return card
