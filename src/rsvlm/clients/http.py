"""JSON over HTTP: what is worth another try is tried again, and the rest is said in one line."""

from __future__ import annotations

import email.utils
import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rsvlm.clients.cache import ReplyCache
from rsvlm.clients.limits import RateLimit
from rsvlm.errors import UserError, extra

#: A reply that is longer is none of an API's.
_LARGEST = 64 * 2**20
#: Answers of a server that is busy or broken for now.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
#: Answers that speak of one request; the next may pass.
_REFUSED = frozenset({400, 413, 415, 422})
#: Seconds that are waited at most before another try, whatever a server asks for.
_LONGEST_WAIT = 60.0


class EndpointError(UserError):
    """A server that cannot be asked; the text says what to do."""

    code = "endpoint"


class Refused(Exception):
    """A server will not answer this one request; the text is what it says of it."""


class _Again(Exception):
    """Worth another try: what happened, and how long the server wants to be left alone."""

    def __init__(self, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said.

    Attributes:
        json: the reply.
        cached: whether it came from the disk.
    """

    json: Any
    cached: bool = False


class HTTPClient:
    """Asks servers that speak JSON. One client may be used by many threads.

    Needs the extra `api`.

    Args:
        cache: a folder where replies are kept; None keeps none.
        replay: only answer from the cache; nothing goes to the network.
        retries: further tries of what may pass; the pauses between them double, from one second to
            a minute, or are as long as the server asks (`Retry-After`).
        timeout: seconds that one try may take.
        per_minute: most requests in a minute; None asks as fast as answers come.
        key_env: the environment variable that holds the key; None sends none.
        first_wait: seconds before the second try.
        words: what stands before an option where an error names one: `model.`, another node of the
            configuration, or `--` of a tool.

    Raises:
        UserError: `replay` without a cache, or a key in the place of its variable's name.
    """

    def __init__(
        self,
        *,
        cache: str | Path | None = None,
        replay: bool = False,
        retries: int = 5,
        timeout: float = 120.0,
        per_minute: float | None = None,
        key_env: str | None = None,
        first_wait: float = 1.0,
        words: str = "model.",
    ) -> None:
        if replay and cache is None:
            raise UserError("replay=true answers from a cache alone: give cache=<folder> too.")
        if key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", key_env):
            raise UserError(
                "key_env= is the name of an environment variable, in capitals (OPENAI_API_KEY), "
                "and never the key itself, which would be written into configurations and logs."
            )
        self.cache = ReplyCache(cache) if cache is not None else None
        self.replay, self.retries, self.timeout = replay, retries, timeout
        self.key_env, self.first_wait, self.words = key_env, first_wait, words
        self.limit = RateLimit(per_minute)
        self._client: Any = None
        self._reached = False
        self._lock = threading.Lock()

    def post(self, url: str, body: Mapping[str, Any]) -> Reply:
        """The reply to a JSON body.

        Raises:
            Refused: the server will not answer this request (400, 413, 415, 422).
            EndpointError: it cannot be asked: away, slow, limited, no key, no JSON.
        """
        return self._ask("POST", url, body)

    def get(self, url: str, params: Mapping[str, Any] | None = None) -> Reply:
        """The reply to a query; errors as of `post`."""
        return self._ask("GET", url, params or {})

    def cached(self, url: str, body: Mapping[str, Any], method: str = "POST") -> bool:
        """Whether a request would be answered from the disk."""
        request = {"method": method, "url": url, "body": body}
        return self.cache is not None and self.cache.path(ReplyCache.key(request)).is_file()

    def _ask(self, method: str, url: str, body: Mapping[str, Any]) -> Reply:
        self._allow(url)
        request = {"method": method, "url": url, "body": body}
        key = ReplyCache.key(request)
        if self.cache is not None:
            held = self.cache.get(key)
            if held is not None:
                return Reply(held, cached=True)
            if self.replay:
                refused = self.cache.refusal(key)
                if refused is not None:
                    raise Refused(refused)
                raise EndpointError(
                    f"replay=true, and {self.cache.folder} has no reply to this request to {url}: "
                    "something that decides it has changed (model, words, picture, settings), or "
                    "it was never asked. Ask it once with replay=false."
                )
        try:
            reply = self._tried(method, url, body)
        except Refused as error:
            if self.cache is not None:
                self.cache.refuse(key, request, str(error))
            raise
        if self.cache is not None:
            self.cache.put(key, request, reply)
        return Reply(reply)

    def _tried(self, method: str, url: str, body: Mapping[str, Any]) -> Any:
        with extra("api"):
            import tenacity

        def pause(state: Any) -> float:
            error = state.outcome.exception()
            asked = error.wait if isinstance(error, _Again) else None
            doubled = self.first_wait * 2 ** (state.attempt_number - 1)
            return float(min(_LONGEST_WAIT, doubled if asked is None else asked))

        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.retries + 1),
            wait=pause,
            retry=tenacity.retry_if_exception_type(_Again),
            reraise=True,
        )
        try:
            return again(self._once, method, url, body)
        except _Again as error:
            raise EndpointError(f"{error} (tried {self.retries + 1} times)") from error

    def _once(self, method: str, url: str, body: Mapping[str, Any]) -> Any:
        with extra("api"):
            import httpx

        self.limit.wait()
        # No parameters at all where there are none: empty ones would replace the address's own.
        sent: dict[str, Any] = {"json": body} if method == "POST" else {"params": body or None}
        try:
            with self._connection().stream(method, url, headers=self._headers(), **sent) as reply:
                content = bytearray()
                for part in reply.iter_bytes():
                    content += part
                    if len(content) > _LARGEST:
                        raise EndpointError(
                            f"{url} answers with more than {_LARGEST >> 20} MiB: is it an API?"
                        )
        except httpx.TimeoutException as error:
            raise _Again(
                f"{url} did not answer within {self.timeout:g} s: give a longer "
                f"{self.words}timeout=, or ask less at once."
            ) from error
        except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
            text = f"{url} cannot be reached: {error}. Is the server up, and the address right?"
            # A wrong address is said at once; a server that was there may come back.
            raise (_Again(text) if self._reached else EndpointError(text)) from error
        except httpx.TransportError as error:
            raise _Again(f"{url} cut its answer short: {error}.") from error
        self._reached = True
        return self._read(url, reply, bytes(content))

    def _read(self, url: str, reply: Any, content: bytes) -> Any:
        status = int(reply.status_code)
        kind = str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()
        if 200 <= status < 300:
            try:
                return json.loads(content)
            except (ValueError, RecursionError) as error:
                if kind.endswith("json"):
                    raise _Again(f"{url} cut its answer short: it is no whole JSON.") from error
                raise EndpointError(
                    f"{url} answers {_page(kind, content)} where JSON was expected: is this the "
                    "API's address? It often ends with /v1."
                ) from error
        said = _said(content, kind)
        if status in (401, 403):
            raise EndpointError(self._key_trouble(url, status, said))
        if status == 404:
            raise EndpointError(f"{url}: not found. {said} Look at {self._address(url)}.")
        if 300 <= status < 400:
            where = str(reply.headers.get("location", "elsewhere"))[:200]
            raise EndpointError(
                f"{url} sends on to {where}, which is not followed, as a key would go along: give "
                "the right address."
            )
        if status == 429 and "quota" in said.lower():
            raise EndpointError(f"{url}: the account's quota is used up. {said}")
        if status in _REFUSED:
            raise Refused(said.removesuffix(".") or f"status {status}")
        if status in _AGAIN:
            hint = (
                f" Give {self.words}per_minute=<requests> to ask slower." if status == 429 else ""
            )
            wait = _retry_after(reply.headers.get("retry-after"))
            raise _Again(f"{url} answers with {status}. {said}{hint}", wait)
        raise EndpointError(f"{url} answers with {status}. {said}")

    def _connection(self) -> Any:
        with extra("api"):
            import httpx
        with self._lock:
            if self._client is None:
                logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
                self._client = httpx.Client(timeout=self.timeout, follow_redirects=False)
            return self._client

    def _address(self, url: str) -> str:
        if self.words == "--":  # tools call it differently
            return "the server's address"
        named = f" and {self.words}name=" if url.endswith("/chat/completions") else ""
        return f"{self.words}url={named}"

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "rsvlm (+https://pypi.org/project/rsvlm)"}
        if self.key_env is None:
            return headers
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            return headers
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(f"${self.key_env} holds signs that no key has: set it again.")
        return headers | {"Authorization": f"Bearer {key}"}

    def _key_trouble(self, url: str, status: int, said: str) -> str:
        name = self.key_env or "OPENAI_API_KEY"
        if self.key_env and os.environ.get(self.key_env, "").strip():
            return f"{url} refuses the key of ${name} ({status}). {_masked(said)}".rstrip()
        return (
            f"{url} asks for a key ({status}), and ${name} is not set: export {name}=<key>; "
            f"{self.words}key_env= names another variable. Keys are read from the environment "
            "alone."
        )

    def _allow(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(
                f"{url!r} is no address of a server: it begins with http:// or https://."
            )
        named = re.search(r"(?i)(^|&)(api[-_]?)?key=", parts.query)
        if parts.username or parts.password or named:
            raise EndpointError(
                f"the address of {parts.hostname} holds a key or a password, which would be "
                "written into configurations and logs: put it into an environment variable that "
                f"{self.words}key_env= names."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> HTTPClient:
        return self  # a connection is shared, as locks cannot be copied


def _said(content: bytes, kind: str) -> str:
    """What an error's body says, in one short line."""
    text = content[:4000].decode("utf-8", errors="replace")
    try:
        held = json.loads(content)
        held = held.get("error", held) if isinstance(held, dict) else held
        text = (
            str(held.get("message") or held.get("detail") or held)
            if isinstance(held, dict)
            else str(held)
        )
    except (ValueError, RecursionError):
        if "html" in kind:
            return ""
    text = _masked(" ".join(text.split())[:300])
    return text + "." if text and text[-1] not in ".!?" else text


def _masked(text: str) -> str:
    """A text without what looks like a key; servers quote them."""
    return re.sub(r"\b(sk|pk|key|hf|Bearer)[-_ ][\w*-]{6,}", r"\1-…", text)


def _page(kind: str, content: bytes) -> str:
    title = re.search(rb"<title[^>]*>([^<]{1,80})", content[:4000], re.IGNORECASE)
    name = "HTML" if "html" in kind or content.lstrip()[:1] == b"<" else (kind or "something")
    return f"{name} ({title[1].decode(errors='replace').strip()!r})" if title else name


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        at = email.utils.parsedate_tz(value)
        return None if at is None else max(0.0, email.utils.mktime_tz(at) - time.time())
