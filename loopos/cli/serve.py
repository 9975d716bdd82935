"""``loopos serve``: the model in FOLDER for programs that speak the OpenAI API."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from loopos import checks
from loopos.run.messages import to_stderr
from loopos.serve import server

from . import engines, options
from .common import use_threads
from .reply import Reply

SERVE = """Serve the model in FOLDER to programs that speak the OpenAI API: /v1/completions and /v1/chat/completions,
both with streaming, and /v1/models. It needs the extra [serve]. Ctrl-C ends it.

  loopos serve smollm2
  loopos serve runs/planet --port 9000
  LOOPOS_API_KEY=... loopos serve runs/planet --host 0.0.0.0

Only this machine reaches it, unless --host says otherwise; then clients must bring the key that stands in the
environment variable LOOPOS_API_KEY. One answer is computed at a time; others wait in a queue."""
KEY = "LOOPOS_API_KEY"
HOST, PORT = "127.0.0.1", 8080
LIMITS = {  # the fields of loopos.serve.app.Limits, which needs Starlette
    "max_body": ("body", "bytes of a request", 1 << 20),
    "max_tokens": ("tokens", "tokens that a request may ask for, of all its answers together", 4096),
    "max_seconds": ("seconds", "seconds that a request may take", 600),
    "max_waiting": ("waiting", "requests that may wait", 16),
}


def add_serve(parser: argparse.ArgumentParser) -> None:
    options.add_folder(parser)
    options.add_flag(parser, "host", "address to listen at", "str", HOST)
    options.add_flag(parser, "port", "0: a free one", "int", PORT)
    options.add_flag(parser, "name", "of the model, as clients call it (default: the folder's)", "str")
    for name, (_, text, default) in LIMITS.items():
        options.add_flag(parser, name, text, "int", default)
    options.add_flag(parser, "threads", options.TRAIN["threads"], "int")


def serve(given: dict[str, Any]) -> Reply:
    use_threads(given)
    host, port, key = given.get("host", HOST), given.get("port", PORT), os.environ.get(KEY)
    server.check_address(host, port, key)  # before the model is opened
    try:
        from loopos.serve.app import Limits
    except ImportError:
        raise server.missing() from None
    limits = {
        field: checks.integer("serve", name, given[name], low=0 if field == "waiting" else 1)
        for name, (field, _, _) in LIMITS.items()
        if name in given
    }
    engine = engines.writing("serve", given)
    name = given.get("name") or Path(given["folder"]).absolute().name

    def ready(url: str) -> None:
        to_stderr(f"{name} is served at {url} (Ctrl-C ends it)")

    server.serve(engine, name=name, host=host, port=port, key=key, limits=Limits(**limits), ready=ready)
    return Reply({"served": name})
