"""A hostile client: half characters, numbers without end, bodies that go on, clients that leave, a server that ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import loopos

pytest.importorskip("starlette", reason="the server needs Starlette (extra [serve])")
from loopos.serve.app import Limits

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@pytest.mark.parametrize(
    "values",
    [
        HI | {"\ud800": 1},
        HI | {"temperature": "\ud800"},
        {"messages": [{"role": "user", "content": "x", "\ud800": 1}]},
        {"messages": [{"role": "\ud800", "content": "x"}]},
        HI | {"temperature": 10**4000},
        HI | {"temperature": -(10**4000)},
        HI | {"top_p": 10**4000},
        HI | {"max_tokens": 10**4000},
        {"messages": [{"role": "user", "content": "x", "y" * 5000: 1}]},
    ],
)
def test_what_is_no_answer_is_a_short_error(served, parrot, values, capfd):
    client = served(parrot)
    status, told = client.post(CHAT, values)
    assert status == 400
    assert told["error"]["type"] == "invalid_request_error"
    assert len(told["error"]["message"]) < 300
    assert capfd.readouterr().err == ""


HOSTS = ["localhost:80@evil.example", "localhost:", "localhost:x", ":80", "", "localhost:80:80"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_is_none(served, parrot, host):
    client = served(parrot, hosts=("127.0.0.1", "localhost", "[::1]"))
    assert client.send("GET", "/v1/models", headers={"host": host})[0] == 403


def test_the_rest_of_a_body_that_is_too_long_is_not_waited_for(served, parrot):
    client = served(parrot, limits=Limits(body=2000))
    head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n".encode()
    with socket.create_connection(("127.0.0.1", client.port), 20) as line:
        line.sendall(head + b"transfer-encoding: chunked\r\n\r\n1000\r\n" + b" " * 4096 + b"\r\n")
        told = b""
        while piece := line.recv(4096):  # until the server hangs up
            told += piece
    assert b"413" in told
    assert b"connection: close" in told.lower()  # said at once: it would hang up on an idle line sooner or later


def test_clients_that_have_gone_hold_no_place_in_the_queue(served, parrot, until):
    parrot.gate = threading.Event()
    client = served(parrot, limits=Limits(waiting=2))
    first = threading.Thread(target=client.post, args=(TEXT, {"prompt": "a", "max_tokens": 2}))
    first.start()
    until(lambda: parrot.running == 1)
    jobs = client.app.state.server.jobs
    body = json.dumps({"prompt": "b", "max_tokens": 2}).encode()
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    lines = [socket.create_connection(("127.0.0.1", client.port), 20) for _ in range(2)]
    for line in lines:
        line.sendall(head.encode() + body)
    until(lambda: len(jobs._open) == 3)
    assert client.post(TEXT, {"prompt": "c"})[0] == 429
    for line in lines:
        line.close()
    until(lambda: sum(not job.cancelled for job in jobs._open) == 1)
    late = []
    asking = threading.Thread(target=lambda: late.append(client.post(TEXT, {"prompt": "c", "max_tokens": 2})[0]))
    asking.start()
    until(lambda: len(jobs._open) == 4)
    parrot.gate.set()
    first.join(20)
    asking.join(20)
    assert late == [200]


def test_long_prompts_are_read_one_after_the_other(served, parrot):
    now, most, lock = 0, 0, threading.Lock()

    def text_ids(text):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return [1]

    parrot.text_ids = text_ids
    client = served(parrot)
    threads = [threading.Thread(target=client.post, args=(TEXT, {"prompt": "\1", "max_tokens": 1})) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of bytes that never comes to an end by itself."""
    pytest.importorskip("tokenizers", reason="the extra [hf]")
    pytest.importorskip("jinja2", reason="the extra [hf]")
    path = tmp_path_factory.mktemp("served") / "tiny"
    config = loopos.ModelConfig(300, 2048, 2, 2, 64)
    model = loopos.Model(config)
    tokenizer = loopos.Tokenizer.train(["the cat and the hat " * 20], 257)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    model.tokenizer = tokenizer
    model.save_pretrained(path)
    return path


@pytest.fixture
def process(folder):
    """A server in a process of its own, and its port."""
    environment = os.environ | {"LOOPOS_API_KEY": "k" * 16, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "loopos", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as made:
        line = made.stderr.readline()
        yield made, int(line.partition("/v1")[0].rpartition(":")[2])
        made.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stream", [True, False])
def test_the_server_ends_in_the_middle_of_an_answer(process, number, stream):
    """Clients are told that the answer is not whole; there is no traceback."""
    server, port = process
    body = json.dumps({"prompt": "the", "max_tokens": 1900, "stream": stream}).encode()
    head = (
        f"POST {TEXT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {'k' * 16}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    lines = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(3)]
    for line in lines:
        line.sendall(head.encode() + body)
    if stream:
        assert b"200 OK" in lines[0].recv(100)
    else:
        time.sleep(0.3)
    server.send_signal(number)
    _, err = server.communicate(timeout=60)
    assert server.returncode in (130, -number, 128 + number)
    assert "Traceback" not in err
    assert "Error" not in err
    for line in lines:
        told = b""
        while piece := line.recv(65536):
            told += piece
        assert b"the server is stopping" in told
        assert b"[DONE]" not in told
        line.close()


def test_the_openai_package_talks_to_it(process):
    openai = pytest.importorskip("openai", reason="the client of the OpenAI API, no dependency of LoopOS")
    _, port = process
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k" * 16, max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny"]
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "seed": 1}
    whole = client.chat.completions.create(**asked)
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 5
    assert (pieces[-2].choices[0].finish_reason, whole.choices[0].finish_reason) == ("length", "length")
    made = client.completions.create(model="tiny", prompt=["the", "cat"], n=2, max_tokens=3)
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    with pytest.raises(openai.NotFoundError, match="the model here is tiny"):
        client.chat.completions.create(**asked | {"model": "gpt"})
    with pytest.raises(openai.BadRequestError, match="do not fit the context") as caught:
        client.completions.create(model="tiny", prompt="the", max_tokens=99999)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError, match="a key is needed"):
        client.with_options(api_key="wrong").models.list()
