"""The live page of a study over HTTP (`polyglance study serve`): read-only, two fixed routes, on loopback by default.

with open_server(config, ServeConfig()) as server:
    print(server.address)             # http://127.0.0.1:8780/
    server.serve_forever()

On a host that other machines reach, a request needs the token that the server has drawn: in the address that is
printed, in the cookie that the page sets, or as `Authorization: Bearer TOKEN`. On loopback without a token only
requests to a loopback name are answered, so that no page of another site can read this one through a name of its own.
"""

import hmac
import ipaddress
import json
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from polyglance.config import to_dict
from polyglance.error_text import one_line
from polyglance.report.live import make_content_policy, render_live_page
from polyglance.report.templating import read_asset
from polyglance.study.config import StudyConfig
from polyglance.study.watching.progress import ProgressReader
from polyglance.study.watching.serve_config import ServeConfig

__all__ = ["StudyServer", "open_server"]

_MAX_AGE_S = 2.0
"""Age up to which an answer is given again; the files are not read more often than that, however many ask."""
_TIMEOUT_S = 10.0
"""Longest wait for a request that is not whole, or a reader that does not read."""


class StudyServer(ThreadingHTTPServer):
    """A server of one study's page. `open_server` makes it.

    Args:
        family, place: address family and socket address to listen on.
        token: text that a request has to bring; empty: none.
    """

    daemon_threads = True

    def __init__(self, config: StudyConfig, family: int, place: tuple[Any, ...], token: str) -> None:
        self.address_family = family
        self.token = token
        self._pages = _Pages(config)
        super().__init__(place[:2], _Handler)

    def server_bind(self) -> None:
        """Bind the socket, without the search for this machine's name that HTTPServer makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def address(self) -> str:
        """Address to open, with the token if there is one."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        if ipaddress.ip_address(self.server_name.partition("%")[0]).is_unspecified:
            host = socket.gethostname()
        return f"http://{host}:{self.server_port}/{f'?token={self.token}' if self.token else ''}"

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds the token: browsers share cookies between the ports of a host."""
        return f"polyglance-{self.server_port}"

    def answer(self, route: str) -> tuple[str, bytes]:
        """Return content type and content of a route."""
        return self._pages.get()[route]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as socketserver calls it
        """Report an error in one line, unless it is that of a reader who has closed the connection."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"polyglance study serve: {error!r}", file=sys.stderr, flush=True)


def open_server(config: StudyConfig, options: ServeConfig) -> StudyServer:
    """Open the port. `serve_forever` then answers, `server_close` (or the end of a `with` block) closes it.

    Raises:
        ValueError: the study cannot be read, no such host, or a port that is taken or not allowed.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"`host` {options.host!r}: {reason}; 127.0.0.1 is this machine alone") from None
    is_loopback = ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback
    token = secrets.token_urlsafe(24) if options.with_token or not is_loopback else ""
    try:
        return StudyServer(config, family, place, token)
    except OSError as error:
        raise ValueError(
            f"`port` {options.port} of {options.host}: {error.strerror or error}; port 0 takes a free one"
        ) from None


class _Pages:
    """The answers, made again when they are older than `_MAX_AGE_S`; one thread makes them, the others wait."""

    def __init__(self, config: StudyConfig) -> None:
        self._reader = ProgressReader(config)
        self._lock = threading.Lock()
        self._made_at_s = -1e9
        self._answers: Mapping[str, tuple[str, bytes]] = {}

    def get(self) -> Mapping[str, tuple[str, bytes]]:
        with self._lock:
            if time.monotonic() - self._made_at_s > _MAX_AGE_S:
                progress = self._reader.read()
                page = render_live_page(progress, is_live=True)
                sums = {"spent_s": progress.spent_s, "left_s": progress.left_s, "num_unknown": progress.num_unknown}
                values = json.dumps({**sums, **to_dict(progress)}, ensure_ascii=False, allow_nan=False)
                self._answers = {
                    "/": ("text/html; charset=utf-8", page.encode(errors="replace")),
                    "/status.json": ("application/json", f"{values}\n".encode(errors="replace")),
                }
                self._made_at_s = time.monotonic()
            return self._answers


class _Handler(BaseHTTPRequestHandler):
    """One request. Nothing of its path is used but to compare it with the routes."""

    server: StudyServer
    timeout = _TIMEOUT_S
    server_version = "polyglance"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, *, with_content: bool) -> None:
        try:
            url = urlsplit(self.path)
            query = parse_qs(url.query, max_num_fields=8)
        except ValueError:
            return self._send(400, "text/plain; charset=utf-8", b"400 not an address\n", with_content)
        if not self._is_to_this_host():
            text = b"403 ask for localhost or 127.0.0.1\n"
            return self._send(403, "text/plain; charset=utf-8", text, with_content)
        if not self._has_token(query):
            text = b"401 the token is missing or wrong: open the address that `polyglance study serve` has printed\n"
            return self._send(401, "text/plain; charset=utf-8", text, with_content)
        if url.path not in _ROUTES:
            return self._send(404, "text/plain; charset=utf-8", b"404 there are / and /status.json\n", with_content)
        try:
            kind, content = self.server.answer(url.path)
        except (ValueError, OSError) as error:  # inputs of the study that can no longer be read
            content = f"503 {one_line(error)}\n".encode(errors="replace")
            return self._send(503, "text/plain; charset=utf-8", content, with_content)
        return self._send(200, kind, content, with_content)

    def _is_to_this_host(self) -> bool:
        """Tell whether a request without a token names a loopback host."""
        if self.server.token:
            return True
        try:
            host = urlsplit(f"//{self.headers.get('Host', 'localhost')}").hostname or ""
            return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def _has_token(self, query: Mapping[str, list[str]]) -> bool:
        if not self.server.token:
            return True
        # Other programs of this host send their cookies too, in forms that http.cookies does not read.
        cookies = [one.strip().partition("=") for one in self.headers.get("Cookie", "").split(";")]
        scheme, _, bearer = self.headers.get("Authorization", "").partition(" ")
        given = [*query.get("token", []), *(value for name, _, value in cookies if name == self.server.cookie)]
        given += [bearer.strip()] if scheme.lower() == "bearer" else []
        right = self.server.token.encode()
        matches = [hmac.compare_digest(one.encode(errors="replace"), right) for one in given]
        return any(matches)

    def _send(self, code: int, kind: str, content: bytes, with_content: bool) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if code == 200 and self.server.token:
            cookie = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Strict"
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Add the headers that every answer has."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a request's address may hold the token."""


_ROUTES = ("/", "/status.json")
_HEADERS = {
    "Content-Security-Policy": f"{make_content_policy(read_asset('live.js'))}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
