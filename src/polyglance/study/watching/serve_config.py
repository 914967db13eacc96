"""Options of `polyglance study serve`, in a module of their own because the server takes a while to load."""

from dataclasses import dataclass

__all__ = ["ServeConfig"]


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Address of the live page."""

    host: str = "127.0.0.1"
    """Name or address to listen on. Any but loopback needs the token that is printed."""
    port: int = 8780
    """Port to listen on; 0 takes a free one."""
    with_token: bool = False
    """Ask for the token on loopback too, where other users of this machine could read the page."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"`port` is {self.port}; expected 0 to 65535")
