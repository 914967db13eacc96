"""Connection to a Ray cluster."""

import os
import socket
import sys
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any

__all__ = ["check_head", "connect_ray", "is_connected", "send_messages_to_stderr"]

_opened = ""
"""Address that `connect_ray` connected this process to last."""
_CONNECT_S = 10.0
_CLIENT = "ray://"
"""Beginning of the addresses of Ray's client servers, for programs that are not on a node of the cluster."""


def connect_ray(address: str) -> Any:
    """Connect this process to a Ray cluster, and return the module `ray`. If the process is already connected, that
    connection is used; `address` has to be the same or `auto`.

    Args:
        address: `auto` (the cluster of this machine, or that of RAY_ADDRESS), `HOST:PORT` of the head, or
            `ray://HOST:PORT` of the head or of its client server.

    Raises:
        ValueError: Ray is not installed, there is no cluster at the address, or the process is connected elsewhere.
    """
    global _opened
    try:
        import ray
    except ImportError:
        raise ValueError("Ray is not installed: pip install 'polyglance[ray]'") from None
    if is_connected():
        head = getattr(ray.get_runtime_context(), "gcs_address", "")  # a client does not know it
        if address not in ("auto", _opened, head):
            where = head or _opened or "a Ray cluster"
            raise ValueError(
                f"this process is already connected to {where}, not to {address}; `auto` uses that connection"
            )
        return ray
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else ""
    try:
        ray.init(address=_check_address(named or address), log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["it does not answer"])[0]
        raise ValueError(f"no Ray cluster at {named or address}: {reason}") from None
    _opened = address
    return ray


def send_messages_to_stderr() -> AbstractContextManager[Any]:
    """Return a context in which what this process prints goes to standard error. A thread of Ray prints messages (a
    worker has died) to standard output, where results would have lines between them that are no results."""
    return redirect_stdout(sys.stderr)


def is_connected() -> bool:
    """Tell whether this process is connected to a Ray cluster."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _check_address(address: str) -> str:
    """Check that a cluster answers at the address, and return it as Ray expects it. Ray itself would try for minutes,
    and confuses the ports of the head and of its client server."""
    if address == "auto":
        return address
    check_head(address)
    host, port = _split(address)
    try:
        import grpc
    except ImportError:
        return address
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        ask = channel.unary_unary("/grpc.health.v1.Health/Check")  # the head has gRPC's health service
        try:
            ask(b"", timeout=_CONNECT_S)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return f"{_CLIENT}{host}:{port}"
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ValueError("the server at this address is not Ray") from None
            return address
    return f"{host}:{port}"


def check_head(address: str) -> None:
    """Check that something listens at the address of a head or of a client server.

    Raises:
        ValueError: nothing listens there, or it is not an address.
    """
    try:
        socket.create_connection(_split(address), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("expected auto, HOST:PORT or ray://HOST:PORT")
    return host.strip("[]"), int(port)
