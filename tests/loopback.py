"""A server on this machine that answers by a script, for tests of clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Script:
    """What the server answers, and what it was asked.

    Attributes:
        answer: from a request's body to (status, body, headers); a body of bytes goes as it is.
        asked: the bodies so far.
        headers: those of the last request.
        url: of the API.
    """

    answer: Callable[[Any], tuple[int, Any, dict[str, str]]]
    asked: list[Any] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""


@contextmanager
def serving(answer: Callable[[Any], tuple[int, Any, dict[str, str]]]) -> Iterator[Script]:
    """A server while the block lasts."""
    script = Script(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            """Asks the script with the path and the query, one value of each name."""
            parts = urlsplit(self.path)
            self._reply({"path": parts.path, "query": dict(parse_qsl(parts.query))})

        def _reply(self, body: Any) -> None:
            script.asked.append(body)
            script.headers = {k.lower(): v for k, v in self.headers.items()}
            status, said, headers = script.answer(body)
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            given = {"Content-Type": "application/json", "Content-Length": str(len(content))}
            for name, value in {**given, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()


def completion(
    text: str, *, reason: str = "stop", usage: tuple[int, int] | None = (100, 10), **message: Any
) -> tuple[int, Any, dict[str, str]]:
    """An answer in OpenAI's form."""
    said = {
        "choices": [
            {"message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
        ]
    }
    if usage is not None:
        said["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return 200, said, {}


def question(body: Any) -> str:
    """The text of a request's last question."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]
