"""The routes of the server: the completions and chat parts of the OpenAI API, and nothing else.

Nothing in a request names a file: prompts and messages become token ids, everything else is numbers.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loopos.checks import shown
from loopos.errors import NonFiniteError
from loopos.generation.engine import Engine
from loopos.run.messages import to_stderr

from . import requests
from .answers import Answer, Style, chat_style, completion_style
from .errors import Refused
from .jobs import Job, Jobs
from .requests import Request

MAX_SEED = 2**64


@dataclass(frozen=True)
class Limits:
    """body: bytes of a request; arrival: seconds in which it must have come. tokens: that one request may ask for, of
    all its answers together. seconds: that one request may take. waiting: requests behind the one that is computed."""

    body: int = 1 << 20
    arrival: float = 30.0
    tokens: int = 4096
    seconds: float = 600.0
    waiting: int = 16


def make_app(
    engine: Engine, *, name: str, key: str | None = None, hosts: tuple[str, ...] = (), limits: Limits | None = None
) -> Starlette:
    """hosts: names that the Host header of a request may have, so that no web page reaches the server through a name of
    its own; empty: any. key: what clients must bring as Authorization: Bearer KEY."""
    server = _Server(engine, name, key, hosts, limits or Limits())
    routes = [
        Route("/health", server.guarded(server.health, free=True), methods=["GET"]),
        Route("/v1/models", server.guarded(server.models), methods=["GET"]),
        Route("/v1/models/{name:path}", server.guarded(server.model), methods=["GET"]),
        Route("/v1/completions", server.guarded(server.completions), methods=["POST"]),
        Route("/v1/chat/completions", server.guarded(server.chat), methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_route}, lifespan=server.lifespan)
    app.state.server = server
    return app


class _Server:
    def __init__(self, engine: Engine, name: str, key: str | None, hosts: tuple[str, ...], limits: Limits):
        self.engine, self.name, self.key, self.hosts, self.limits = engine, name, key, hosts, limits
        self.started = int(time.time())
        self.jobs: Jobs | None = None
        self.reading = asyncio.Semaphore(1)  # texts become ids one after the other: a long one takes time and memory

    def lifespan(self, app: Starlette) -> Any:
        return _Lifespan(self)

    async def stop(self) -> None:
        """Answers end at their next token, and their clients are told."""
        if self.jobs is not None:
            await asyncio.to_thread(self.jobs.close)

    # The door

    def guarded(
        self, route: Callable[[HttpRequest], Awaitable[Response]], *, free: bool = False
    ) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def answer(http: HttpRequest) -> Response:
            try:
                self._check_host(http)
                if not free:
                    self._check_key(http)
                return await route(http)
            except Refused as refused:
                return _refusal(refused)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:
                return _refusal(_failure(error))

        return answer

    def _check_host(self, http: HttpRequest) -> None:
        host = http.headers.get("host", "")
        name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        fits = (name if colon else host).lower() in self.hosts and (not colon or port.isdecimal())
        if self.hosts and not fits:
            raise Refused(403, f"this server answers to {', '.join(self.hosts)} only", code="host")

    def _check_key(self, http: HttpRequest) -> None:
        if self.key is None:
            return
        given = http.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode()):
            raise Refused(401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key")

    async def _body(self, http: HttpRequest) -> dict[str, Any]:
        kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # also what a web page may send without asking
            raise Refused(415, f"the content type must be application/json, got {kind[:64] or 'none'}")
        length = http.headers.get("content-length", "")
        if length.isdigit() and len(length) < 20 and int(length) > self.limits.body:
            raise self._too_long()
        try:
            body = await asyncio.wait_for(self._read(http), self.limits.arrival)
        except asyncio.TimeoutError:
            raise Refused(408, f"the body did not come within {self.limits.arrival:g} s") from None
        return requests.parse_json(body)

    async def _read(self, http: HttpRequest) -> bytes:
        body = bytearray()
        async for chunk in http.stream():
            body += chunk
            if len(body) > self.limits.body:
                raise self._too_long()
        return bytes(body)

    def _too_long(self) -> Refused:
        return Refused(413, f"a body may have {self.limits.body} bytes at most", code="body_too_long")

    # The routes

    async def health(self, http: HttpRequest) -> Response:
        return JSONResponse({"status": "ok", "model": self.name})

    async def models(self, http: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, http: HttpRequest) -> Response:
        self._check_model(http.path_params["name"])
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        length = self.engine.context_length
        return {
            "id": self.name,
            "object": "model",
            "created": self.started,
            "owned_by": "loopos",
            "context_length": length,
        }

    def _check_model(self, asked: str | None) -> None:
        if asked not in (None, self.name):
            raise Refused(404, f"the model here is {self.name}", param="model", code="model_not_found")

    async def completions(self, http: HttpRequest) -> Response:
        request = requests.completion(await self._body(http))
        return await self._answer(http, request, completion_style(self.name))

    async def chat(self, http: HttpRequest) -> Response:
        request = requests.chat(await self._body(http))
        return await self._answer(http, request, chat_style(self.name))

    async def _answer(self, http: HttpRequest, request: Request, style: Style) -> Response:
        self._check_model(request.model)
        assert self.jobs is not None
        async with self.reading:
            prompts = await asyncio.to_thread(self._prompts, request)
        most = self._max_tokens(request, prompts)
        answer = Answer(style, len(prompts) * request.choices, sum(map(len, prompts)))
        job = self.jobs.submit(lambda stop: self._pieces(request, prompts, most, stop), self.limits.seconds)
        if request.stream:
            return StreamingResponse(
                _events(job, answer, request.usage),
                media_type="text/event-stream",
                headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            )
        watch = asyncio.ensure_future(_until_gone(http, job))
        try:
            async for choice, piece in job.pieces():
                answer.add(choice, piece)
        finally:
            watch.cancel()
        return JSONResponse(answer.whole())

    def _prompts(self, request: Request) -> list[list[int]]:
        try:
            prompts = [self.engine.chat_ids(request.messages)] if request.messages else []
            for prompt in request.prompts:
                prompts.append(self.engine.text_ids(prompt) if isinstance(prompt, str) else list(prompt))
        except (ValueError, TypeError) as error:  # a template that refuses these messages, half a character
            raise Refused(400, str(error), param="messages" if request.messages else "prompt") from None
        for ids in prompts:
            if not ids:
                raise Refused(400, "the prompt has no token", param="prompt")
            bad = next((i for i in ids if not 0 <= i < self.engine.vocab_size), None)
            if bad is not None:
                raise Refused(400, f"token ids go from 0 to {self.engine.vocab_size - 1}, got {bad}", param="prompt")
        return prompts

    def _max_tokens(self, request: Request, prompts: list[list[int]]) -> int:
        """Of each answer."""
        length, longest, answers = self.engine.context_length, max(map(len, prompts)), len(prompts) * request.choices
        room, share = length - longest, self.limits.tokens // answers
        if room < 1:
            what = f"the prompt has {longest} tokens, the context of this model {length}"
            raise Refused(400, f"{what}: shorten it", code="context_length_exceeded")
        asked = request.max_tokens
        if asked is None:
            return max(1, min(room, share))
        if asked > room:
            new = f"{shown(asked)} new ones"
            what = f"{longest} tokens of the prompt and {new} do not fit the context of {length} tokens"
            raise Refused(400, what, param="max_tokens", code="context_length_exceeded")
        if asked > share:
            what = f"this server writes {self.limits.tokens} tokens a request at most, got {answers} x {asked}"
            raise Refused(400, what, param="max_tokens")
        return asked

    def _pieces(self, request: Request, prompts: list[list[int]], most: int, stop: Callable[[], bool]) -> Any:
        seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed % MAX_SEED
        number = 0
        for ids in prompts:
            for _ in range(request.choices):
                for piece in self.engine.answer(
                    ids,
                    max_new_tokens=most,
                    seed=(seed + number) % MAX_SEED,
                    stop=request.stop,
                    stopped=stop,
                    **request.sampling,
                ):
                    yield number, piece
                number += 1


class _Lifespan:
    """The queue lives as long as the application."""

    def __init__(self, server: _Server):
        self.server = server

    async def __aenter__(self) -> None:
        self.server.jobs = Jobs(self.server.limits.waiting)

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()


async def _events(job: Job, answer: Answer, usage: bool) -> AsyncIterator[str]:
    """Server-sent events. An error after the first piece can only be told inside the stream."""
    try:
        for event in answer.opening():
            yield _event(event)
        pieces = job.pieces()
        try:
            async for choice, piece in pieces:
                answer.add(choice, piece)
                yield _event(answer.piece(choice, piece))
        finally:
            await pieces.aclose()
        if usage:
            yield _event(answer.closing())
        yield "data: [DONE]\n\n"
    except Exception as error:
        yield _event((error if isinstance(error, Refused) else _failure(error)).to_dict())
    finally:
        job.cancel()


async def _until_gone(http: HttpRequest, job: Job) -> None:
    """Stop the work when nobody waits for its answer any more."""
    while not await http.is_disconnected():
        await asyncio.sleep(0.1)
    job.cancel()


def _failure(error: Exception) -> Refused:
    """What a client is told of a fault on this side; a number that is not finite is told in full, others to whoever
    runs the server."""
    if isinstance(error, NonFiniteError):
        return Refused(500, str(error), code="not_finite")
    to_stderr("".join(traceback.format_exception(error)).rstrip())
    return Refused(500, "the server failed at this request; its own output says where")


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _refusal(refused: Refused) -> JSONResponse:
    headers = {"retry-after": "5"} if refused.status == 429 else {}
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refused.status in (408, 413):  # the rest of such a body is not waited for
        headers["connection"] = "close"
    body = json.dumps(refused.to_dict())  # ASCII: it may quote half a character of the request
    return Response(body, refused.status, headers, media_type="application/json")


async def _no_route(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = "no such route" if error.status_code == 404 else error.detail
    return _refusal(Refused(error.status_code, f"{what}: there are /v1/models, /v1/completions, /v1/chat/completions"))
