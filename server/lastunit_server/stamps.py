"""How a file looks, so that a change of it is noticed without reading it.

Owns nothing else. Used by what is read again while the server runs.
"""

from pathlib import Path

__all__ = ["Stamp", "stamp"]

# What tells that a file was replaced or written: a link that points elsewhere counts too.
Stamp = tuple[int, int, int] | None


def stamp(file: Path) -> Stamp:
    """Returns what tells one content of a file from the next; None if it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
