"""Messages of other libraries' errors, for messages of one line."""

__all__ = ["first_line", "one_line"]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """Return an error's whole message with spaces in place of line ends, or its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
