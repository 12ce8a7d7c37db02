"""What the exit status of `lastunit-server` means; part of the interface."""

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """The exit statuses. 1 is what Python itself leaves with when it meets a bug."""

    OK = 0
    CHECK_FAILED = 1  # a broken invariant, a damaged journal, or nothing of that name
    USAGE = 2  # a wrong argument, setting or policy; the text says which
    NOT_STARTED = 3  # a port is taken, the directory has an owner, the journal is damaged
    JOURNAL_FAILED = 4  # a write or flush failed while serving; acknowledged work is on disk
    FORCED = 5  # a second signal, or the grace time was over before all work was finished
    NOT_REACHED = 6  # the server or directory that a tool was pointed at can't be read
    NOT_SAVED = 7  # verify --repair-to could not write a copy of a damaged journal
