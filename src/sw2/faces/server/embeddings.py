"""/v1/embeddings: texts as vectors, for every program that can `Embed`.

The openai client asks for base64 by itself, which is a fourth of the size. `dimensions` is not known: to cut vectors is
the learning's decision and not the server's.
"""

from __future__ import annotations

import base64

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from sw2.core.capabilities import Embed
from sw2.faces.server import wire
from sw2.faces.server.gate import held
from sw2.faces.server.programs import Programs
from sw2.faces.server.writing import reserve

__all__ = ["embeddings_router"]


def embeddings_router(programs: Programs) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/embeddings", response_model=wire.EmbeddingsAnswer, tags=["embeddings"])
    async def embeddings(request: Request, asked: wire.Embeddings) -> Response:
        """Turn texts into vectors."""
        served = programs[asked.model]
        held(request.scope).facts["model"] = served.name
        embedder = served.capability(Embed)  # type: ignore[type-abstract]
        texts = [asked.input] if isinstance(asked.input, str) else list(asked.input)
        reserve(request.scope, served, 1)
        vectors = np.ascontiguousarray(await served.worker.call(lambda: embedder.embed(texts)), dtype="<f4")
        plain = asked.encoding_format != "base64"
        data = [
            wire.Vector(
                object="embedding",
                index=number,
                embedding=vector.tolist() if plain else base64.b64encode(vector.tobytes()).decode(),
            )
            for number, vector in enumerate(vectors)
        ]
        answer = wire.EmbeddingsAnswer(object="list", model=served.name, data=data)
        return JSONResponse(answer.model_dump(exclude_unset=True))

    return router
