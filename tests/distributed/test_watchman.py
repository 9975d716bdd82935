"""What the watchman makes of what the ranks say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loopos.distributed import watchman as module
from loopos.distributed.watchman import GRACE, Rank, Watchman, main, verdict


def ranks(count=3, now=0.0):
    return [Rank(number, f"host{number}", 100 + number, None, now) for number in range(count)]


def waits(rank, since):
    rank.waits, rank.waited = True, since


def test_all_is_well():
    assert verdict(ranks(), 3, 10, 5) is None


def test_silence_is_named():
    team = ranks()
    team[0].heard = team[2].heard = 20
    kind, said = verdict(team, 3, 10, 20)
    assert kind == "end"
    assert said.startswith("rank 1 on host1 (process 101, last heard of before the first update) has been silent")


def test_who_keeps_the_others_waiting_is_named():
    team = ranks()
    for rank in team:
        rank.heard, rank.step = 20, 7
    waits(team[0], 9)
    waits(team[1], 9)
    assert verdict(team, 3, 10, 18.9) is None
    assert "rank 2 on host2 (process 102, last heard of in update 7) has got no further" in verdict(team, 3, 10, 20)[1]
    team[2].moved = 15  # it computes, slowly
    assert verdict(team, 3, 10, 20) is None


def test_ranks_that_all_wait_are_told():
    team = ranks()
    for rank in team:
        rank.heard = 20
        waits(rank, 1)
    assert "all 3 ranks have waited for each other" in verdict(team, 3, 10, 20)[1]


def test_a_rank_that_ended_while_others_wait_is_named():
    team = ranks()
    for rank in team:
        rank.heard = 20
        waits(rank, 1)
    team[1].gone = True
    assert "rank 1 on host1" in verdict(team, 3, 10, 20)[1]


def test_an_error_of_one_is_its_own_and_one_of_all_is_common():
    team = ranks()
    team[2].failed = "OSError", "No space left", 5.0
    assert verdict(team, 3, 100, 5.1) is None  # the others may come to it
    for rank in team[:2]:
        waits(rank, 5.0)
        rank.heard = 5.5
    assert verdict(team, 3, 100, 5.6) == (
        "end",
        "rank 2 on host2 (process 102, last heard of before the first update): OSError: No space left",
    )
    for rank in team:
        rank.failed = "ValueError", "bad", 6.0
    assert verdict(team, 3, 100, 6.1) == ("common", "")
    team[1].failed = "TypeError", "worse", 5.5
    assert verdict(team, 3, 100, 6.1)[1].startswith("rank 1 ")
    team[0].failed = team[1].failed = None
    team[0].waits = False
    assert verdict(team, 3, 100, 6.0 + GRACE + 1)[0] == "end"


def test_ranks_that_have_not_come_yet_are_given_time_to_fail_alike():
    first = ranks()[:1]
    first[0].failed = "ValueError", "bad", 5.0
    assert verdict(first, 2, 100, 5.1) is None
    assert verdict(first, 2, 100, 5.0 + GRACE + 1)[0] == "end"


@pytest.fixture
def served():
    """A watchman of two ranks, what it said, and two connections."""
    said: list[str] = []
    watchman = Watchman(2, 5.0, "secret", said.append)
    thread = threading.Thread(target=watchman.run)
    thread.start()
    port = watchman.listener.getsockname()[1]

    def come(number, key="secret"):
        connection = socket.create_connection(("127.0.0.1", port))
        send(connection, {"rank": number, "host": "here", "pid": number, "key": key})
        return connection

    yield said, come
    watchman.over = True
    thread.join(timeout=20)
    assert not thread.is_alive()
    watchman.listener.close()
    for connection in watchman.rest:
        connection.close()


def send(connection, what):
    connection.sendall(json.dumps(what).encode() + b"\n")


def heard(connection):
    """The lines until the run is over."""
    with connection.makefile() as lines:
        for line in lines:
            said = json.loads(line.removeprefix("!"))
            if "alive" not in said:
                return said
    return None


def fail_alike(said, *connections):
    """The watchman still answers, and has said nothing."""
    for each in connections:
        send(each, {"failed": "ValueError", "says": "alike"})
    assert [heard(each) for each in connections] == [{"verdict": "common"}] * len(connections)
    assert said == []
    for each in connections:
        each.close()


def test_a_connection_that_breaks_is_a_death(served):
    said, come = served
    first, second = come(0), come(1)
    assert first.recv(1) == second.recv(1) == b"!"
    send(second, {"tick": 1, "waits": False, "step": 4})
    second.close()
    told = heard(first)
    first.close()
    assert "rank 1 on here (process 1, last heard of in update 4) has died" in told["end"]
    assert len(said) == 1
    assert said[0].startswith("loopos: rank 1 on here")
    assert said[0].endswith("The run is over; the last checkpoint is as it was")


def test_who_says_goodbye_has_not_died(served):
    said, come = served
    connections = [come(0), come(1)]
    for connection in connections:
        assert connection.recv(1) == b"!"
        send(connection, {"bye": True})
        connection.close()
    assert said == []


def test_a_stranger_is_not_listened_to(served):
    said, come = served
    stranger, first, second = come(1, "guess"), come(0), come(1)
    assert first.recv(1) == second.recv(1) == b"!"
    stranger.close()
    fail_alike(said, first, second)


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"[1]\n7\n", b"\xff\n", b"[" * 50000 + b"\n", b"x" * (1 << 18)]
)
def test_who_looks_at_the_port_ends_nothing(sent, served):
    said, come = served
    first, second = come(0), come(1)
    assert first.recv(1) == second.recv(1) == b"!"
    with socket.create_connection(first.getpeername()) as stranger, contextlib.suppress(OSError):
        stranger.sendall(sent)
    fail_alike(said, first, second)


def test_it_speaks_more_often_than_the_timeout_of_now():
    watchman = Watchman(1, 300.0, "secret", print)
    assert watchman.pulse == 1.0
    watchman.timeout = 0.5
    assert watchman.pulse < 0.5
    watchman.listener.close()
    watchman.selector.close()


def test_it_is_started_with_two_numbers():
    with pytest.raises(IndexError):
        main(["watchman.py"])


def gone(pid):
    """Whether this process has ended, looked at for some seconds."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_what_is_sent_to_all_processes_does_not_end_it():
    """As a batch system does before its time is over: the ranks save then, and must not take it for dead."""
    words = [sys.executable, "-I", "-S", module.__file__, "1", "60"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watching:
        watching.stdin.write("secret\n")
        watching.stdin.close()
        port = int(watching.stdout.readline())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            watching.send_signal(number)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            send(connection, {"rank": 0, "host": "here", "pid": os.getpid(), "key": "secret"})
            assert connection.recv(1) == b"!"
            send(connection, {"bye": True})
            assert watching.wait(20) == 0


def test_it_does_not_outlive_a_rank_0_that_never_came():
    starts = "from loopos.distributed.watched import start; import os; print(start(2, 60.0)['port'], flush=True); "
    starts += "print(open('/proc/self/task/%d/children' % os.getpid()).read())"
    done = subprocess.run([sys.executable, "-c", starts], capture_output=True, text=True, timeout=60, check=True)
    assert gone(done.stdout.split()[1])
