"""A small process beside rank 0 that hears from every rank, and says what happened when one is heard no more.

It has a session of its own, so a launcher that kills all ranks because one died does not kill it before it has said
which. It is started as a file, with the standard library alone: ``python -I -S watchman.py RANKS TIMEOUT``, with a key
on its standard input; on its standard output it tells the port it listens on. What goes over a connection are lines of
JSON.

A rank sends {"rank", "host", "pid", "key"}, then every so often {"tick", "waits", "step"}: a number that grows while it
gets on, whether it waits for the others, and its update. {"failed": kind, "says": text} is an error, {"bye": true} the
end. It is sent an exclamation mark, then {"alive"} every so often; {"verdict": "common"} when all failed alike, which
is theirs to tell; and {"end": sentence} when the run is over, which has then been printed here.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time

GRACE = 10.0  # seconds in which ranks that fail together are heard
LONGEST = 1 << 16  # bytes of a line of who has not said the key
LAST = 3.0  # seconds that the ranks have to read what is sent


class Rank:
    """What is known of one."""

    def __init__(self, number, host, pid, connection, now):
        self.number, self.host, self.pid, self.connection = number, host, pid, connection
        self.tick, self.waits, self.step = -1, False, 0
        self.heard = self.moved = self.waited = now  # since when it waits, where it does
        self.failed = None  # (kind, text, when)
        self.gone = False  # said goodbye

    def __str__(self):
        where = f"in update {self.step}" if self.step else "before the first update"
        return f"rank {self.number} on {self.host} (process {self.pid}, last heard of {where})"


def verdict(ranks, count, timeout, now):
    """("end", sentence), ("common", "") or None of the ``ranks`` heard so far, of ``count``."""
    failed = [rank for rank in ranks if rank.failed is not None]
    if failed:
        kinds = {rank.failed[0] for rank in failed}
        if len(failed) == count and len(kinds) == 1:
            return "common", ""
        first = min(failed, key=lambda rank: rank.failed[2])
        rest = [rank for rank in ranks if rank.failed is None]
        settled = all(rank.gone or (rank.waits and rank.heard > first.failed[2] + 0.2) for rank in rest)
        if (settled and len(ranks) == count) or len(failed) == count or now - first.failed[2] > GRACE:
            return "end", f"{first}: {first.failed[0]}: {first.failed[1]}"
        return None
    for rank in ranks:
        if not rank.gone and now - rank.heard > timeout:
            return "end", f"{rank} has been silent for {now - rank.heard:.0f} s: it is stopped, or its machine is gone"
    waiting = [rank for rank in ranks if rank.waits and not rank.gone and now - rank.waited > timeout]
    if not waiting:
        return None
    for rank in ranks:
        if rank.gone:
            return "end", f"{rank} has ended, and rank {waiting[0].number} waits for it"
        if not rank.waits and now - rank.moved > timeout:
            return "end", f"{rank} has got no further for {now - rank.moved:.0f} s, and the others wait for it"
    if len(waiting) == len(ranks) == count:
        return "end", f"all {count} ranks have waited for each other for {timeout:.0f} s: is a link cut?"
    return None


class Watchman:
    def __init__(self, count, timeout, key, say):
        self.count, self.timeout, self.key, self.say = count, timeout, key, say
        self.ranks, self.rest, self.over = {}, {}, False
        self.parent = os.getppid()
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("", 0), backlog=1024)
        self.selector.register(self.listener, selectors.EVENT_READ)

    @property
    def pulse(self):
        """Seconds between two signs of life."""
        return min(1.0, self.timeout / 4)

    def run(self):
        due = 0.0
        while not self.over:
            for key, _ in self.selector.select(min(0.1, self.pulse)):
                if self.over:
                    break
                if key.fileobj is self.listener:
                    self.accept()
                else:
                    self.read(key.fileobj)
            now = time.monotonic()
            if not self.over:
                self.judge(now)
            if now >= due:
                due = now + self.pulse
                self.tell({"alive": True})
            if not self.ranks and os.getppid() != self.parent:  # rank 0 has ended before it came
                self.over = True
            if len(self.ranks) == self.count and all(rank.gone for rank in self.ranks.values()):
                self.over = True

    def accept(self):
        connection, _ = self.listener.accept()
        connection.setblocking(True)
        connection.settimeout(5)
        self.rest[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ)

    def read(self, connection):
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        *lines, self.rest[connection] = (self.rest[connection] + data).split(b"\n")
        for line in lines:
            self.hear(connection, _read(line))
        rank = self.of(connection)
        if not data or (rank is None and len(self.rest[connection]) > LONGEST):
            self.selector.unregister(connection)
            if rank is None:
                connection.close()
            if rank is not None and not rank.gone and not self.over:
                rank.gone = True
                self.end(rank, f"{rank} has died: it was killed, or crashed, or its machine ran out of memory")

    def of(self, connection):
        return next((rank for rank in self.ranks.values() if rank.connection is connection), None)

    def hear(self, connection, said):
        rank, now = self.of(connection), time.monotonic()
        if rank is None:
            if said.get("key") == self.key:
                self.ranks[said["rank"]] = Rank(said["rank"], said["host"], said["pid"], connection, now)
                connection.sendall(b"!")
            return
        rank.heard = now
        if "failed" in said:
            rank.failed = said["failed"], said["says"], now
        elif "bye" in said:
            rank.gone = True
        elif "timeout" in said:
            self.timeout = said["timeout"]
        else:
            if said["tick"] != rank.tick:
                rank.moved = now
            if not said["waits"] or not rank.waits or said["tick"] != rank.tick:
                rank.waited = now
            rank.tick, rank.waits, rank.step = said["tick"], said["waits"], said["step"]

    def judge(self, now):
        found = verdict(list(self.ranks.values()), self.count, self.timeout, now)
        if found is None:
            return
        if found[0] == "common":
            for rank in self.ranks.values():
                rank.failed = None
            self.tell({"verdict": "common"})
        else:
            self.end(None, found[1])

    def end(self, dead, sentence):
        self.over = True
        self.say(f"loopos: {sentence}. The run is over; the last checkpoint is as it was")
        self.tell({"end": sentence})
        until = time.monotonic() + LAST
        while time.monotonic() < until and self.selector.get_map():
            for key, _ in self.selector.select(0.1):
                try:
                    if key.fileobj is self.listener or not key.fileobj.recv(65536):
                        self.selector.unregister(key.fileobj)
                except OSError:
                    self.selector.unregister(key.fileobj)

    def tell(self, what):
        line = json.dumps(what).encode() + b"\n"
        for rank in self.ranks.values():
            if not rank.gone:
                with contextlib.suppress(OSError):  # its end is read next
                    rank.connection.sendall(line)


def _read(line):
    """What a line of JSON says; nothing where it is none, as of whoever looks at all ports of a machine."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _say(sentence):
    try:
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it any more


def main(argv):
    watchman = Watchman(int(argv[1]), float(argv[2]), sys.stdin.readline().strip(), _say)
    # What a batch system or a terminal sends to all processes is for the ranks to follow: they say goodbye then.
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.stdout.write(f"{watchman.listener.getsockname()[1]}\n")
    sys.stdout.flush()
    watchman.run()


if __name__ == "__main__":
    main(sys.argv)
