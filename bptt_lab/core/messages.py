"""Messages for people: one line that a terminal only shows, and never obeys."""

from __future__ import annotations

_LONGEST = 1000  # characters


def printable(message: str) -> str:
    r"""Put a message on one line of at most about 1000 characters, with control characters escaped.

    >>> printable("a=\x1b[31mred:\n must be a number")
    'a=\\x1b[31mred: must be a number'
    """
    message = " ".join(message.split())
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 3 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
