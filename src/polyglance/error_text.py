"""Messages of other libraries' errors, for messages of one line."""

__all__ = ["first_line", "is_out_of_memory", "one_line"]


_MAX_CHARACTERS = 300


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind if it has none. A line that ends with a colon is
    returned with the next one, and a long one (some libraries list all they know) is cut."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if isinstance(error, KeyError):  # its message is the key alone
        line = f"{type(error).__name__}: {line}"
    return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}..."


def one_line(error: BaseException) -> str:
    """Return an error's whole message with spaces in place of line ends, or its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory cannot be allocated: Python's own, and those of torch."""
    is_torch = type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_torch)
