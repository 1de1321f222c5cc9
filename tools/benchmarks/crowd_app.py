"""A web application as many have it: each worker with one client and its default settings. Served by uvicorn."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

import reflexio


@asynccontextmanager
async def _with_client(app: FastAPI) -> AsyncIterator[None]:
    async with reflexio.AsyncReflexioClient() as client:  # REFLEXIO_API_URL and REFLEXIO_API_KEY
        app.state.client = client
        yield


app = FastAPI(lifespan=_with_client)


@app.post("/say")
async def say(request: Request, user: str, text: str, wait: bool = False) -> str:
    published = await request.app.state.client.publish_interaction(user, [{"content": text}], wait_for_response=wait)
    return str(published.request_id)


@app.get("/find")
async def find(request: Request, user: str, text: str) -> list[str]:
    found = await request.app.state.client.search_interactions(user_id=user, query=text, top_k=5)
    return [hit.interaction.content for hit in found.hits]
