"""A server in a thread, and a client that says exactly what it is told to say."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time

import pytest

from loopos.generation.session import Piece
from loopos.serve.server import listening


class Parrot:
    """An engine without a model: it answers with the words of the prompt in turn, a token each; ids are code points.

    gate: where it is set, each token waits for it."""

    context_length, vocab_size = 256, 0x110000

    def __init__(self):
        self.gate, self.running, self.most_at_once, self.told, self.fail = None, 0, 0, [], None

    def text_ids(self, text):
        return [ord(c) for c in text]

    def chat_ids(self, messages):
        return self.text_ids("\n".join(f"{m['role']}: {m['content']}" for m in messages))

    def answer(self, ids, *, max_new_tokens, seed, stop, stopped, **sampling):
        self.told.append({"ids": list(ids), "max_new_tokens": max_new_tokens, "seed": seed, "stop": stop, **sampling})
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            words = "".join(map(chr, ids)).split()
            for n in range(max_new_tokens):
                while self.gate is not None and not self.gate.wait(0.01):
                    if stopped():
                        return
                if stopped():
                    return
                if self.fail is not None:
                    raise self.fail
                word = words[n % len(words)]
                ended = word in stop
                last = ended or n + 1 == max_new_tokens
                yield Piece(n, "" if ended else word + " ", ("stop" if ended else "length") if last else None)
                if ended:
                    return
        finally:
            self.running -= 1


class Client:
    def __init__(self, port):
        self.port = port

    def send(self, method, path, body=None, headers=None, timeout=20):
        """(status, headers, body as text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()

    def post(self, path, values, **headers):
        status, _, text = self.send(
            "POST", path, json.dumps(values), {"content-type": "application/json"} | {k: v for k, v in headers.items()}
        )
        return status, json.loads(text)

    def events(self, path, values):
        """The objects of a stream, without its [DONE]."""
        body = json.dumps(values | {"stream": True})
        status, headers, text = self.send("POST", path, body, {"content-type": "application/json"})
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store"
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        done = lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines if line != "[DONE]"], done


@pytest.fixture
def parrot():
    return Parrot()


@pytest.fixture
def served():
    """served(engine, **options of make_app) -> Client"""
    uvicorn = pytest.importorskip("uvicorn", reason="the server needs uvicorn (extra [serve])")
    pytest.importorskip("starlette", reason="the server needs Starlette (extra [serve])")
    from loopos.serve.app import make_app

    with contextlib.ExitStack() as stack:

        def start(engine, **options):
            app = make_app(engine, **({"name": "parrot"} | options))
            sock = stack.enter_context(listening("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
            thread.start()

            def stop():
                server.should_exit = True
                thread.join(20)
                assert not thread.is_alive()

            stack.callback(stop)
            client = Client(sock.getsockname()[1])
            client.app = app
            return client

        yield start


@pytest.fixture
def until():
    """until(condition): waits, and fails when it does not come."""

    def wait(condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.01)

    return wait
