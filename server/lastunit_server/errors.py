"""What can go wrong around the server, as one tree.

Owns the exception types of `lastunit_server`; must not map them to gRPC codes (see `faults`).

    ServerError
    ├── SettingsError      a setting or the admission policy is wrong; carries every problem found
    ├── StartError         a listener or the node could not be opened
    └── TargetError        a command line tool could not reach or read what it was pointed at
        └── EventsRemovedTargetError    the events asked for are not kept any more
"""

from dataclasses import dataclass

__all__ = [
    "EventsRemovedTargetError",
    "Problem",
    "ServerError",
    "SettingsError",
    "StartError",
    "TargetError",
]


class ServerError(Exception):
    """The root of every error that this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong value: where it came from, which key, what is allowed and what to do.

    Attributes:
        source: A file name, `environment` or `flag`.
        key: The dotted key, or the environment variable's full name.
        message: What is wrong, lowercase, no full stop.
        advice: What to do about it.
    """

    source: str
    key: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.source}: {self.key}: {self.message}; {self.advice}"


class SettingsError(ServerError):
    """Settings or an admission policy that can't be used.

    Attributes:
        problems: At least one, in the order of the keys.
    """

    def __init__(self, problems: list[Problem]) -> None:
        assert problems
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class StartError(ServerError):
    """A port is taken, the directory has an owner, or its journal can't be recovered."""


class TargetError(ServerError):
    """A live server or a data directory that a command needs can't be read."""


class EventsRemovedTargetError(TargetError):
    """Events were asked for that lie in removed segments.

    Attributes:
        first_sequence: The first event that is there.
    """

    def __init__(self, message: str, first_sequence: int) -> None:
        super().__init__(message)
        self.first_sequence = first_sequence
