"""An object store in memory, through fsspec, that fails as it is told to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

__all__ = ["ConditionlessFileSystem", "FaultyFileSystem", "PlainFileSystem", "faulty_store"]


class FaultyFileSystem(MemoryFileSystem):
    """Objects in memory. `fault` is called with each operation (`read`, `write`, `list`) before it is done."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fault: ClassVar[Callable[[str], None] | None] = None

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        path = str(path).removeprefix(f"{cls.protocol}://").strip("/")
        return f"/{path}" if path else ""

    def _ask(self, operation: str) -> None:
        if type(self).fault is not None:
            type(self).fault(operation)

    def cat_file(self, path: str, **options: Any) -> bytes:
        self._ask("read")
        return bytes(super().cat_file(path, **options))

    def get_file(self, path: str, local: str, **options: Any) -> None:
        self._ask("read")
        super().get_file(path, local, **options)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._ask("write")
        super().pipe_file(path, value, mode=mode, **options)

    def put_file(self, local: str, path: str, **options: Any) -> None:
        self._ask("write")
        super().put_file(local, path, **options)

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        self._ask("list")
        return super().find(path, *args, **options)


class ConditionlessFileSystem(FaultyFileSystem):
    """A server that ignores the condition that there is no object."""

    protocol = "conditionless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, value, **options)


class PlainFileSystem(MemoryFileSystem):
    """A filesystem without exclusive creation of its own, as most of fsspec's."""

    protocol = "plain"
    pipe_file = fsspec.AbstractFileSystem.pipe_file
    _strip_protocol = FaultyFileSystem._strip_protocol


@contextmanager
def faulty_store() -> Iterator[type[FaultyFileSystem]]:
    """Register the filesystems, and forget their objects at the end."""
    for kind in (FaultyFileSystem, ConditionlessFileSystem, PlainFileSystem):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    try:
        yield FaultyFileSystem
    finally:
        FaultyFileSystem.fault = None
        FaultyFileSystem.store.clear()
