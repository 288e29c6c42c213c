"""Files of the open web: whatever an address does, it ends in bytes or in one word why not."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from rsvlm.clients.limits import RateLimit
from rsvlm.errors import UserError, extra
from rsvlm.files import write_text, written_whole

#: Answers of a server that is busy or broken for now.
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Words of `X-Robots-Tag` by which a site keeps its pictures out of data sets (as img2dataset).
_OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex"})
#: What may be otherwise the next time; it is asked again, unless only the cache may answer.
PASSING = frozenset({"timeout", "unreachable", "server_error", "cut_short"})
#: What our own settings said, which may be others by now; asked again too.
_OURS = frozenset({"private_address", "too_large", "too_many_redirects", "opted_out"})


class NotFetched(Exception):
    """An address that gave no file.

    Attributes:
        reason: one word: `bad_url private_address timeout unreachable server_error cut_short
            not_found refused too_many_redirects too_large empty_file opted_out not_in_cache`.
        detail: what happened.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class File:
    """What an address gave.

    Attributes:
        content: at least one byte.
        kind: the server's word for it, as "image/jpeg".
        url: where it was in the end.
        cached: whether it came from the disk.
    """

    content: bytes
    kind: str
    url: str
    cached: bool = False


class _Deadline:
    """Ends a request at its time, whatever drips: a client's own time begins anew with each byte.

    Attributes:
        passed: whether it did.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._socket: Any = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Takes note of the connection (httpx' extension `trace`)."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.passed:
                self._end()

    def _end(self) -> None:
        self.passed = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _by_proxy(scheme: str, host: str) -> bool:
    """Whether a host that is a name is asked through a proxy of the environment."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return False
    known = getproxies()
    named = scheme in known or "all" in known
    return named and not proxy_bypass(host)


@dataclass
class WebFiles:
    """Fetches files. One object may be used by many threads; needs the extra `api`.

    Addresses of this machine and of private networks are refused, as a list of addresses from
    somewhere else could read what only this machine sees. Behind a proxy (`HTTPS_PROXY`) that is
    the proxy's to refuse.

    Args:
        cache: a folder where files, and why there is none, are kept; None keeps nothing.
        replay: only answer from the cache; nothing goes to the network.
        retries: further tries of what may pass, with pauses that double from `first_wait`.
        timeout: seconds that one file may take in all.
        largest: bytes of a file.
        redirects: followed at most.
        per_minute: most requests in a minute; None asks as fast as answers come.
        workers: requests at a time of `fetch_all`.
        user_agent: how we call ourselves.
        obey_opt_out: whether `X-Robots-Tag: noai` and its like are obeyed.
        allow_private: whether addresses of this machine and of private networks are asked.
        first_wait: seconds before the second try.

    Raises:
        UserError: `replay` without a cache, or a number that is none of its kind.
    """

    cache: str | Path | None = None
    replay: bool = False
    retries: int = 2
    timeout: float = 20.0
    largest: int = 64 * 2**20
    redirects: int = 5
    per_minute: float | None = None
    workers: int = 16
    user_agent: str = "rsvlm (+https://pypi.org/project/rsvlm)"
    obey_opt_out: bool = True
    allow_private: bool = False
    first_wait: float = 0.5

    def __post_init__(self) -> None:
        if self.replay and self.cache is None:
            raise UserError("replay=true answers from a cache alone: give cache=<folder> too.")
        if self.retries < 0 or not self.timeout > 0 or self.largest < 1 or self.redirects < 0:
            raise UserError(
                f"retries={self.retries} timeout={self.timeout:g} largest={self.largest} "
                f"redirects={self.redirects}: seconds and bytes are above 0, the others at least 0."
            )
        self._limit = RateLimit(self.per_minute)
        self._lock = threading.Lock()
        self._client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # Locks and connections stay where they are.
        return {name: value for name, value in self.__dict__.items() if name[0] != "_"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def fetch_all(self, urls: Sequence[str]) -> list[File | NotFetched]:
        """Files, or why there is none, in the order of the addresses; `workers` at a time."""
        with ThreadPoolExecutor(max(1, min(self.workers, len(urls)))) as pool:
            return list(pool.map(self._one, urls))

    def _one(self, url: str) -> File | NotFetched:
        try:
            return self.fetch(url)
        except NotFetched as error:
            return error

    def fetch(self, url: str) -> File:
        """The file at an address.

        Raises:
            NotFetched: there is none; its `reason` is one word.
        """
        held = self._cached(url)
        if held is not None:
            return held
        if self.replay:
            raise NotFetched("not_in_cache", url)
        try:
            found = self._tried(url)
        except NotFetched as error:
            self._keep(url, None, {"reason": error.reason, "detail": error.detail})
            raise
        self._keep(url, found.content, {"kind": found.kind, "url": found.url})
        return found

    def _tried(self, url: str) -> File:
        for number in range(self.retries + 1):
            try:
                return self._followed(url)
            except NotFetched as error:
                if error.reason not in PASSING or number == self.retries:
                    raise
            time.sleep(min(30.0, self.first_wait * 2**number))
        raise AssertionError  # the last try returns or raises

    def _followed(self, url: str) -> File:
        end = time.monotonic() + self.timeout
        for _ in range(self.redirects + 1):
            found = self._once(url, end)
            if isinstance(found, File):
                return found
            try:
                url = urljoin(url, found)
            except ValueError as error:
                raise NotFetched("bad_url", f"sent on to {found[:200]!r}") from error
        raise NotFetched("too_many_redirects", f"more than {self.redirects}")

    def _once(self, url: str, end: float) -> File | str:
        """A file, or where the server sends on to."""
        with extra("api"):
            import httpx

        self._allow(url)
        self._limit.wait()
        left = end - time.monotonic()
        if left <= 0:
            raise NotFetched("timeout", f"{self.timeout:g} s")
        deadline = _Deadline(left)
        try:
            with (
                deadline,
                self._connection().stream(
                    "GET", url, timeout=left, extensions={"trace": deadline.trace}
                ) as reply,
            ):
                status = int(reply.status_code)
                if status in (301, 302, 303, 307, 308) and "location" in reply.headers:
                    return str(reply.headers["location"])
                self._judge(status, reply.headers)
                content = bytearray()
                for piece in reply.iter_bytes():
                    content += piece
                    if len(content) > self.largest:
                        raise NotFetched("too_large", f"more than {self.largest} bytes")
                    if time.monotonic() > end:
                        break
                if deadline.passed or time.monotonic() > end:
                    raise NotFetched("timeout", f"{self.timeout:g} s")
        except httpx.TimeoutException as error:
            raise NotFetched("timeout", f"{self.timeout:g} s") from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise NotFetched("bad_url", str(error)[:200]) from error
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise NotFetched("unreachable", str(error)[:200]) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            if deadline.passed:
                raise NotFetched("timeout", f"{self.timeout:g} s") from error
            raise NotFetched("cut_short", str(error)[:200]) from error
        if not content:
            raise NotFetched("empty_file", "0 bytes")
        kind = str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()
        return File(bytes(content), kind, url)

    def _judge(self, status: int, headers: Mapping[str, str]) -> None:
        if status in (404, 410):
            raise NotFetched("not_found", str(status))
        if status in _AGAIN:
            raise NotFetched("server_error", str(status))
        if not 200 <= status < 300:
            raise NotFetched("refused", str(status))
        if self.obey_opt_out:
            said = {
                word.strip()
                for part in headers.get("x-robots-tag", "").lower().split(",")
                for word in part.split(":")
            }
            if said & _OPT_OUT:
                raise NotFetched("opted_out", ", ".join(sorted(said & _OPT_OUT)))

    def _allow(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise NotFetched("bad_url", str(error)) from error
        if parts.scheme not in ("http", "https") or not host:
            raise NotFetched("bad_url", url[:200])
        if self.allow_private:
            return
        if _by_proxy(parts.scheme, host):
            return  # which finds the host; this machine may know no names of the web
        try:
            where = socket.getaddrinfo(host, port or 443, proto=socket.IPPROTO_TCP)
        except (OSError, UnicodeError) as error:
            raise NotFetched("unreachable", f"{host}: {error}"[:200]) from error
        for _, _, _, _, address in where:
            if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
                raise NotFetched("private_address", f"{host} is {address[0]}")

    def _connection(self) -> Any:
        with extra("api"):
            import httpx
        with self._lock:
            if self._client is None:
                logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
                # Lists name many hosts: connections that are kept would mostly be closed unused, or
                # found closed; and cookies of a million hosts would fill the memory.
                self._client = httpx.Client(
                    follow_redirects=False,
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                    headers={"User-Agent": self.user_agent, "Accept": "image/*,*/*;q=0.5"},
                )
            return self._client

    def _paths(self, url: str) -> tuple[Path, Path]:
        key = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        folder = Path(self.cache or "") / key[:2]
        return folder / f"{key}.bin", folder / f"{key}.json"

    def _cached(self, url: str) -> File | None:
        """The file as it is kept; raises what is kept of an address without one."""
        if self.cache is None:
            return None
        content, header = self._paths(url)
        try:
            said = json.loads(header.read_text(encoding="utf-8"))
            if "reason" in said:
                if said["reason"] in PASSING | _OURS and not self.replay:
                    return None
                raise NotFetched(said["reason"], said["detail"])
            return File(content.read_bytes(), said["kind"], said["url"], cached=True)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, url: str, content: bytes | None, said: Mapping[str, str]) -> None:
        if self.cache is None:
            return
        file, header = self._paths(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            with written_whole(file) as beside:
                beside.write_bytes(content)
        write_text(header, json.dumps(said, ensure_ascii=False))
