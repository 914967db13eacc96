"""Requests to servers that a recipe names: no private address unless it is allowed, and no redirect.

A recipe may be another person's. Without this rule it could send requests to services of this machine or its network
that trust whoever reaches them, such as the metadata of a cloud machine (169.254.169.254).
"""

import http.client
import ipaddress
import os
import urllib.request
from collections.abc import Collection
from typing import Any

__all__ = ["ALLOWED_HOSTS", "is_private", "make_opener"]

ALLOWED_HOSTS = "POLYGLANCE_ALLOW_HOSTS"
"""Environment variable: hosts that may be at private addresses, separated by commas."""


def is_private(address: str) -> bool:
    """Tell whether an IP address is of this machine, a private network, a link or another that the internet does not
    route to."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return not (mapped or ip).is_global or ip.is_multicast


def make_opener(allowed: Collection[str] = ()) -> urllib.request.OpenerDirector:
    """Return an opener of URLs that refuses private addresses and follows no redirect.

    Args:
        allowed: hosts that may be at private addresses, beside those of the environment.

    Raises:
        ValueError: when a URL is opened: its host is at a private address. Nothing is sent then.
    """
    hosts = {*allowed, *(name.strip() for name in os.environ.get(ALLOWED_HOSTS, "").split(","))}
    return urllib.request.build_opener(_Http(hosts), _Https(hosts), _NoRedirect())


class _Checked:
    """A connection that looks at the address it has reached before anything is sent: what a name stands for cannot
    change in between."""

    hosts: Collection[str]
    host: str
    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        address = self.sock.getpeername()[0]
        if self.host not in self.hosts and is_private(address):
            self.sock.close()
            raise ValueError(
                f"the host {self.host} is at {address}, a private address, and nothing was sent; to allow it, set "
                f"{ALLOWED_HOSTS}={self.host}"
            )


class _HttpConnection(_Checked, http.client.HTTPConnection):
    pass


class _HttpsConnection(_Checked, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def __init__(self, hosts: Collection[str]) -> None:
        super().__init__()
        self.connection: Any = type("Connection", (_HttpConnection,), {"hosts": hosts})

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, hosts: Collection[str]) -> None:
        super().__init__()
        self.connection: Any = type("Connection", (_HttpsConnection,), {"hosts": hosts})

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.connection, req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key and the images of a request are for the server that was named, and for no other."""

    def redirect_request(self, *args: Any) -> None:  # noqa: ARG002
        return None
