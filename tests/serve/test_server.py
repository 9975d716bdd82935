"""loopos/serve/server.py: who may reach it, and where it listens."""

import socket

import pytest

from loopos.serve.server import check_address, is_loopback, listening, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_this_machine_needs_no_key(host):
    assert is_loopback(host)
    check_address(host, 0, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_another_address_needs_a_key(host):
    with pytest.raises(ValueError, match="LOOPOS_API_KEY"):
        check_address(host, 8080, None)
    check_address(host, 8080, "k" * 16)
    with pytest.raises(ValueError, match="16 characters"):
        check_address(host, 8080, "short")


def test_ports():
    for port in (-1, 65536):
        with pytest.raises(ValueError, match="port"):
            check_address("127.0.0.1", port, None)


def test_an_address_that_is_taken_or_is_none():
    with listening("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert url_of(sock) == f"http://127.0.0.1:{port}/v1"
        with pytest.raises(OSError, match="cannot listen there"), listening("127.0.0.1", port):
            pass
        with socket.create_connection(("127.0.0.1", port)):
            pass
    with pytest.raises(OSError, match="cannot listen there"), listening("203.0.113.7", 0):
        pass
