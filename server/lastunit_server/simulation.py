"""A recording of arrivals, replayed against a policy: files in, counts out.

Owns which files belong to a recording and in which order they are read; must not decide anything:
the native replay does, with the code that decides live. Next: `simulation_cli` for what is printed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lastunit_server._native import ArrivalReplay

__all__ = ["RecordingError", "ReplayOptions", "recording_files", "replay", "reproduced_share"]

_FILE_PATTERN: Final = "arrivals-*.blocks"
# A server writes files of at most 64 MiB; a file past this is none of its.
_FILE_BYTES_MAX: Final = 1024 * 1024 * 1024


class RecordingError(Exception):
    """A recording or a policy that can't be replayed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What is given instead of what was recorded.

    Attributes:
        service_ms: How long every call is in flight, 0 to 3,600,000 ms; None for as recorded.
        persisted_per_second: What the order database persists, 0.001 to 1,000,000; None for the
            pace that its reports told.
    """

    service_ms: float | None = None
    persisted_per_second: float | None = None

    def as_json(self) -> str:
        """Returns the text that the native replay takes."""
        given = {
            "service_ms": self.service_ms,
            "persisted_per_second": self.persisted_per_second,
        }
        return json.dumps({name: value for name, value in given.items() if value is not None})


def recording_files(recording: Path) -> list[Path]:
    """Lists the files of a recording, oldest first.

    Args:
        recording: A directory that a server recorded to, or one file of it.

    Raises:
        RecordingError: There is none.
    """
    if recording.is_file():
        return [recording]
    files = sorted(recording.glob(_FILE_PATTERN)) if recording.is_dir() else []
    if not files:
        raise RecordingError(
            f"{recording} holds no recording ({_FILE_PATTERN}); give the directory that the server"
            " was told as arrivals.directory"
        )
    return files


def replay(recording: Path, policy: Path, options: ReplayOptions) -> dict[str, Any]:
    """Decides a recording again.

    Args:
        recording: As `recording_files`.
        policy: A TOML file of a policy.
        options: What is given.

    Returns:
        The object that `core_rs/arrivals/README.md` draws.

    Raises:
        RecordingError: A file can't be read, the policy is wrong, or nothing was recorded.
    """
    try:
        native = ArrivalReplay(_text(policy), options.as_json())
    except ValueError as error:
        lines = "\n".join(f"{policy}: {line}" for line in error.args[0])
        raise RecordingError(lines) from error
    for data in _contents(recording_files(recording)):
        native.feed(data)
    result: dict[str, Any] = json.loads(native.finish())
    if result["unknown_version"] is not None:
        raise RecordingError(
            f"{recording} is a recording of version {result['unknown_version']}, which this program"
            " doesn't read; replay it with the program that recorded it"
        )
    if not result["block_count"]:
        raise RecordingError(f"{recording} holds nothing that can be read")
    return result


def reproduced_share(result: dict[str, Any]) -> float:
    """Returns the share of arrivals that a replay let in or refused as was recorded, 0 to 1."""
    lanes = result["lanes"].values()
    offered = sum(lane["live"]["offered_count"] for lane in lanes)
    other = sum(lane["newly_refused_count"] + lane["newly_served_count"] for lane in lanes)
    return 1.0 if not offered else 1.0 - other / offered


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{file} can't be read: {error}") from error


def _contents(files: list[Path]) -> Iterator[bytes]:
    for file in files:
        try:
            if file.stat().st_size > _FILE_BYTES_MAX:
                raise RecordingError(f"{file} is larger than any file of a recording")
            yield file.read_bytes()
        except FileNotFoundError:
            # The server removed its oldest file while we read.
            continue
        except OSError as error:
            raise RecordingError(f"{file} can't be read: {error}") from error
