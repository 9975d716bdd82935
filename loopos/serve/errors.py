"""What a client is told when a request cannot be served: a status and the error object of the OpenAI API."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """status: of HTTP. param: the field of the request that it is about. code: a word for programs."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def to_dict(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status in (401, 403):
            kind = "authentication_error"
        elif self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}
