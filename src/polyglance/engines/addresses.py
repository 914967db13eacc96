"""Requests to servers that a recipe names: no private address unless it is allowed, and no redirect.

A recipe may come from another person. Without this rule it could send requests to services of this machine or its
network that trust every local caller, such as the metadata service of a cloud machine (169.254.169.254).

Proxies of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`) are used for hosts that are allowed. For other
hosts they are refused: a proxy resolves names itself, in its own network, so that the address cannot be checked here.
"""

import http.client
import ipaddress
import os
import urllib.request
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

__all__ = ["ALLOWED_HOSTS", "is_private", "make_opener"]

ALLOWED_HOSTS = "POLYGLANCE_ALLOW_HOSTS"
"""Environment variable: hosts that may be at private addresses, separated by commas."""


def is_private(address: str) -> bool:
    """Tell whether an IP address is not routed on the internet: of this machine, a private network, a link."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return not (mapped or ip).is_global or ip.is_multicast


def make_opener(allowed: Collection[str] = ()) -> urllib.request.OpenerDirector:
    """Return an opener of URLs that refuses private addresses and follows no redirect.

    Args:
        allowed: hosts that may be at private addresses, beside those of the environment.

    Raises:
        ValueError: when a URL is opened: its host is at a private address, or would be reached through a proxy. Nothing
            is sent then.
    """
    hosts = {*allowed, *(name.strip() for name in os.environ.get(ALLOWED_HOSTS, "").split(","))}
    return urllib.request.build_opener(_Http(hosts), _Https(hosts), _NoRedirect())


class _HttpConnection(http.client.HTTPConnection):
    """A connection that checks the address it has reached before anything is sent, so that the name cannot resolve to
    another address in between."""

    hosts: Collection[str] = ()

    def connect(self) -> None:
        super().connect()
        address = self.sock.getpeername()[0]
        if self.host not in self.hosts and is_private(address):
            self.sock.close()
            raise ValueError(
                f"the host {self.host} is at {address}, a private address, and nothing was sent; to allow it, set "
                f"{ALLOWED_HOSTS}={self.host}"
            )


class _HttpsConnection(http.client.HTTPSConnection, _HttpConnection):
    """The same for TLS, before the handshake: `HTTPSConnection` calls `connect` of the class above."""


def _choose_connection(request: urllib.request.Request, hosts: Collection[str], checked: type, plain: type) -> Any:
    """Return the class of connections for a request. A proxy is chosen by the user and may have any address.

    Raises:
        ValueError: the request would go through a proxy, and its host is not allowed by name.
    """
    target = urlsplit(request.full_url)
    if request.host == target.netloc:
        return type("Connection", (checked,), {"hosts": hosts})
    if target.hostname not in hosts:
        raise ValueError(
            f"the host {target.hostname} would be reached through the proxy {request.host}, which may find it at a "
            f"private address; nothing was sent; to allow it, set {ALLOWED_HOSTS}={target.hostname}, or "
            f"NO_PROXY={target.hostname} to reach it directly"
        )
    return plain


class _Http(urllib.request.HTTPHandler):
    def __init__(self, hosts: Collection[str]) -> None:
        super().__init__()
        self._hosts = hosts

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_choose_connection(req, self._hosts, _HttpConnection, http.client.HTTPConnection), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, hosts: Collection[str]) -> None:
        super().__init__()
        self._hosts = hosts

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_choose_connection(req, self._hosts, _HttpsConnection, http.client.HTTPSConnection), req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: the key and the images of a request are sent only to the server that was named."""

    def redirect_request(self, *args: Any) -> None:  # noqa: ARG002
        return None
