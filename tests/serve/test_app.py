"""loopos/serve/app.py: the routes over a real connection, with an engine that has no model."""

import asyncio
import json
import socket
import threading

import pytest

from loopos.serve.errors import Refused

pytest.importorskip("starlette", reason="the server needs Starlette (extra [serve])")
from loopos.serve.answers import Answer, chat_style
from loopos.serve.app import Limits, _events
from loopos.serve.jobs import Jobs

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "hello there"}]


def test_models_and_health(served, parrot):
    client = served(parrot)
    status, _, text = client.send("GET", "/v1/models")
    listed = json.loads(text)
    assert (status, listed["object"], [m["id"] for m in listed["data"]]) == (200, "list", ["parrot"])
    assert json.loads(client.send("GET", "/v1/models/parrot")[2])["context_length"] == 256
    assert client.send("GET", "/v1/models/../../etc/passwd")[0] == 404
    assert json.loads(client.send("GET", "/health")[2]) == {"status": "ok", "model": "parrot"}


def test_a_chat(served, parrot):
    status, answer = served(parrot).post(
        CHAT, {"model": "parrot", "messages": HELLO, "max_tokens": 3, "seed": 7, "temperature": 0}
    )
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "user: hello there "},
            "finish_reason": "length",
            "logprobs": None,
        }
    ]
    assert answer["usage"] == {"prompt_tokens": 17, "completion_tokens": 3, "total_tokens": 20}
    (told,) = parrot.told
    assert told["seed"] == 7
    assert told["temperature"] == 0


def test_completions_of_several_prompts_and_choices(served, parrot):
    client = served(parrot)
    status, answer = client.post(TEXT, {"prompt": ["a b", "c"], "max_tokens": 2, "n": 2, "seed": 5})
    assert status == 200
    assert [c["text"] for c in answer["choices"]] == ["a b ", "a b ", "c c ", "c c "]
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert [told["seed"] for told in parrot.told] == [5, 6, 7, 8]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12}
    assert client.post(TEXT, {"prompt": [104, 105], "max_tokens": 1})[1]["choices"][0]["text"] == "hi "


def test_a_seed_that_is_not_given_is_another_each_time(served, parrot):
    client = served(parrot)
    for _ in range(2):
        client.post(TEXT, {"prompt": "a", "max_tokens": 1})
    assert parrot.told[0]["seed"] != parrot.told[1]["seed"]


def test_a_stream_of_a_chat(served, parrot):
    events, done = served(parrot).events(
        CHAT, {"messages": HELLO, "max_tokens": 9, "stop": ["there"], "stream_options": {"include_usage": True}}
    )
    assert done
    assert {e["object"] for e in events} == {"chat.completion.chunk"}
    assert len({e["id"] for e in events}) == 1
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1]) == "user: hello "
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None, None, None, "stop"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 3


def test_a_stream_of_a_completion_has_no_usage_unless_asked(served, parrot):
    events, done = served(parrot).events(TEXT, {"prompt": "é ☃", "max_tokens": 2})
    assert done
    assert [e["choices"][0]["text"] for e in events] == ["é ", "☃ "]
    assert not any("usage" in e for e in events)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (["a", ""], "the prompt has no token"),
        ([1, 99], "token ids go from 0 to 98, got 99"),
    ],
)
def test_ids_that_the_model_cannot_be_given_are_refused(prompt, told, served, parrot):
    parrot.vocab_size = 99
    status, answer = served(parrot).post(TEXT, {"prompt": prompt, "max_tokens": 1})
    assert (status, answer["error"]["param"]) == (400, "prompt")
    assert told in answer["error"]["message"]
    assert parrot.told == []


def test_a_stream_that_nobody_reads_ends_its_work_before_the_first_piece():
    async def go():
        jobs = Jobs(1)
        job, begun = jobs.submit(lambda stop: iter(()), 10), Answer(chat_style("parrot"), 1, 1)
        events = _events(job, begun, False)
        await anext(events)  # who speaks
        await events.aclose()
        cancelled = job.cancelled  # close() cancels as well
        jobs.close()
        return cancelled

    assert asyncio.run(go())


@pytest.mark.parametrize(
    ("values", "status", "told"),
    [
        ({"messages": HELLO, "max_tokens": 250}, 400, "17 tokens of the prompt and 250 new ones do not fit"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, 400, "the prompt has 306 tokens, the context"),
        ({"messages": HELLO, "model": "gpt-4"}, 404, "the model here is parrot"),
        ({"messages": HELLO, "n": 8, "max_tokens": 33}, 400, "writes 256 tokens a request at most, got 8 x 33"),
        ({"messages": []}, 400, "messages must be a list of at least one message"),
    ],
)
def test_what_does_not_fit_is_refused(values, status, told, served, parrot):
    got, answer = served(parrot, limits=Limits(tokens=256)).post(CHAT, values)
    assert got == status
    assert told in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert parrot.told == []


def test_without_max_tokens_a_chat_may_fill_the_context(served, parrot):
    client = served(parrot, limits=Limits(tokens=100))
    client.post(CHAT, {"messages": HELLO})
    client.post(CHAT, {"messages": [{"role": "user", "content": "x" * 200}]})
    client.post(TEXT, {"prompt": "x"})
    assert [told["max_new_tokens"] for told in parrot.told] == [100, 50, 16]


def test_bodies(served, parrot):
    client = served(parrot, limits=Limits(body=2000))
    kind = {"content-type": "application/json"}
    assert client.send("POST", CHAT, b"{}", {"content-type": "text/plain"})[0] == 415
    assert client.send("POST", CHAT, b"{", kind)[0] == 400
    assert client.send("POST", CHAT, b"\xff\xfe", kind)[0] == 400
    assert client.send("POST", CHAT, b"[" * 1900, kind)[0] == 400
    assert client.send("POST", CHAT, b'{"temperature": NaN}', kind)[0] == 400
    status, _, text = client.send("POST", CHAT, b" " * 2001, kind)
    assert (status, json.loads(text)["error"]["code"]) == (413, "body_too_long")
    assert client.send("GET", CHAT)[0] == 405
    assert client.send("POST", "/v1/files", b"{}", kind)[0] == 404
    assert client.send("GET", "/health")[0] == 200


def test_a_body_that_says_it_is_short_or_comes_in_endless_pieces(served, parrot):
    client = served(parrot, limits=Limits(body=2000, arrival=0.3))
    head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n".encode()
    with socket.create_connection(("127.0.0.1", client.port), 20) as line:
        line.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(5):
            line.sendall(b"200\r\n" + b" " * 512 + b"\r\n")
        assert b"413" in line.recv(100)
    with socket.create_connection(("127.0.0.1", client.port), 20) as line:
        line.sendall(head + b"content-length: 2001\r\n\r\n{")  # and nothing more: it is not waited for
        assert b"413" in line.recv(100)
    with socket.create_connection(("127.0.0.1", client.port), 20) as line:
        line.sendall(head + b"content-length: 100\r\n\r\n{")
        assert b"408" in line.recv(100)


def test_a_key(served, parrot):
    client = served(parrot, key="k" * 16)
    assert client.send("GET", "/health")[0] == 200
    assert client.send("GET", "/v1/models")[0] == 401
    assert client.send("GET", "/v1/models", headers={"authorization": "Bearer " + "k" * 15})[0] == 401
    assert client.send("GET", "/v1/models", headers={"authorization": "Bearer \xe9"})[0] == 401
    assert client.send("GET", "/v1/models", headers={"authorization": "Bearer " + "k" * 16})[0] == 200


def test_a_web_page_cannot_reach_it_by_a_name_of_its_own(served, parrot):
    client = served(parrot, hosts=("127.0.0.1", "localhost", "[::1]"))
    assert client.send("GET", "/v1/models", headers={"host": "evil.example"})[0] == 403
    assert client.send("GET", "/v1/models", headers={"host": "localhost:99"})[0] == 200
    assert client.send("GET", "/v1/models", headers={"host": "[::1]:99"})[0] == 200


def test_one_at_a_time_a_queue_and_no_more(served, parrot, until):
    parrot.gate = threading.Event()
    client = served(parrot, limits=Limits(waiting=3))
    results, told = [], set()
    threads = []

    def ask():
        kind = {"content-type": "application/json"}
        status, headers, _ = client.send("POST", TEXT, b'{"prompt": "a", "max_tokens": 2}', kind)
        told.add((status, headers.get("retry-after")))
        results.append(status)

    for _ in range(12):
        threads.append(threading.Thread(target=ask))
        threads[-1].start()
    until(lambda: results.count(429) == 8)
    parrot.gate.set()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == [200] * 4 + [429] * 8
    assert told == {(200, None), (429, "5")}
    assert parrot.most_at_once == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_connection_stops_the_work(stream, served, parrot, until):
    client = served(parrot)
    parrot.gate = threading.Event()
    body = json.dumps({"prompt": "a b", "max_tokens": 200, "stream": stream}).encode()
    line = socket.create_connection(("127.0.0.1", client.port), 20)
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    line.sendall(head.encode() + body)
    until(lambda: parrot.running == 1)
    line.close()
    until(lambda: parrot.running == 0)
    parrot.gate.set()
    assert client.post(TEXT, {"prompt": "a", "max_tokens": 1})[0] == 200


def test_one_that_leaves_the_queue_is_not_computed(served, parrot, until):
    client = served(parrot)
    parrot.gate = threading.Event()
    first = threading.Thread(target=client.post, args=(TEXT, {"prompt": "a", "max_tokens": 1}))
    first.start()
    until(lambda: parrot.running == 1)
    body = json.dumps({"prompt": "gone", "max_tokens": 1}).encode()
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    jobs = client.app.state.server.jobs
    with socket.create_connection(("127.0.0.1", client.port), 20) as line:
        line.sendall(head.encode() + body)
        until(lambda: len(jobs._open) == 2)
    until(lambda: any(job.stopped() for job in jobs._open))
    parrot.gate.set()
    first.join(20)
    until(lambda: not jobs._open)
    assert len(parrot.told) == 1


def test_a_time_limit(served, parrot):
    client = served(parrot, limits=Limits(seconds=0.2))
    parrot.gate = threading.Event()
    status, answer = client.post(TEXT, {"prompt": "a", "max_tokens": 9})
    assert (status, answer["error"]["code"]) == (504, "timeout")
    assert "0.2 s" in answer["error"]["message"]
    events, done = client.events(TEXT, {"prompt": "a", "max_tokens": 9})
    assert not done
    assert events[-1]["error"]["code"] == "timeout"
    parrot.gate.set()
    assert client.post(TEXT, {"prompt": "a", "max_tokens": 1})[0] == 200


def test_an_error_inside_is_told_and_the_next_one_served(served, parrot):
    client = served(parrot)
    parrot.fail = Refused(500, "a logit is not finite", code="not_finite")
    assert client.post(TEXT, {"prompt": "a", "max_tokens": 1})[1]["error"]["message"] == "a logit is not finite"
    events, done = client.events(TEXT, {"prompt": "a", "max_tokens": 1})
    assert not done
    assert events[-1]["error"]["message"] == "a logit is not finite"
    parrot.fail = None
    assert client.post(TEXT, {"prompt": "a", "max_tokens": 1})[0] == 200


def test_a_fault_of_the_server_is_told_to_who_runs_it(served, parrot, capsys):
    client = served(parrot)
    parrot.fail = RuntimeError("of /home/someone/model")
    status, answer = client.post(TEXT, {"prompt": "a", "max_tokens": 1})
    assert status == 500
    assert "someone" not in json.dumps(answer)
    assert "of /home/someone/model" in capsys.readouterr().err
    assert client.events(TEXT, {"prompt": "a", "max_tokens": 1})[0][-1]["error"]["type"] == "server_error"
