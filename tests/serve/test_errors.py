"""loopos/serve/errors.py: what clients are told has the type that their libraries look for."""

import pytest

from loopos.serve.errors import Refused


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (503, "server_error"),
    ],
)
def test_types(status, kind):
    told = Refused(status, "why", param="n", code="word").to_dict()["error"]
    assert told == {"message": "why", "type": kind, "param": "n", "code": "word"}
