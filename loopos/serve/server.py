"""The server as a process: where it listens, and who may reach it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from loopos.generation.engine import Engine

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MIN_KEY = 16  # characters


def check_address(host: str, port: int, key: str | None) -> None:
    """ValueError where strangers could reach the server without a key, or the address is none."""
    if not 0 <= port <= 65535:
        raise ValueError(f"serve: port must be from 0 to 65535, got {port}")
    if key is not None and len(key) < MIN_KEY:
        raise ValueError(f"serve: the key must have {MIN_KEY} characters or more, got {len(key)}")
    if key is None and not is_loopback(host):
        raise ValueError(
            f"serve: {host!r} can be reached from other machines, so clients must bring a key: set LOOPOS_API_KEY, "
            "or leave --host out to serve this machine alone"
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def missing() -> ImportError:
    return ImportError("serve: this needs the packages uvicorn and starlette: pip install 'loopos[serve]'")


def listening(host: str, port: int) -> socket.socket:
    """A socket that hears from now on. OSError naming the address when it is taken or is none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise OSError(error.errno, f"serve: cannot listen there: {error.strerror}", f"{host}:{port}") from None
    return sock


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def serve(
    engine: Engine,
    *,
    name: str,
    host: str = "127.0.0.1",
    port: int = 8080,
    key: str | None = None,
    limits: Any = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Until Ctrl-C or SIGTERM. port 0: a free one. ready(url) is called when requests are heard.

    ValueError: a host that other machines reach, without a key. ImportError names the extra. OSError: see
    :func:`listening`."""
    check_address(host, port, key)
    try:
        import uvicorn

        from .app import make_app
    except ImportError:
        raise missing() from None
    hosts = LOOPBACK if key is None else ()  # a key keeps web pages out already
    app = make_app(engine, name=name, key=key, hosts=hosts, limits=limits)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
    )

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await app.state.server.stop()  # first, so that every client is told and no request has to be broken off
            await super().shutdown(sockets)

    with listening(host, port) as sock:
        ready(url_of(sock))
        Server(config).run(sockets=[sock])
