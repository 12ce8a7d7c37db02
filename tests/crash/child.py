"""The server as a child process that may end at any moment, also before it is ready.

Owns the process and its command line. Must not: know why it is ended (`places.py`).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 60.0
END_SECONDS_MAX = 60.0
# A failpoint ends the process by an abort.
DEATHS = {-signal.SIGKILL, -signal.SIGABRT}


@dataclass
class Child:
    """One life of the server."""

    process: subprocess.Popen[bytes]
    log: Path
    ready: dict[str, Any] = field(default_factory=dict)

    def wait_ready(self, seconds: float = START_SECONDS_MAX) -> bool:
        """Waits until it is ready; False if it ended before that."""
        assert self.process.stdout is not None
        text = b""
        end = time.monotonic() + seconds
        while not text.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            assert readable, f"the server neither started nor ended: {self.log.read_text()}"
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                self.process.wait(END_SECONDS_MAX)
                return False
            text += part
        self.ready = json.loads(text)
        return True

    def kill(self) -> int:
        """Ends it at once; returns the exit status, which may be another if it had ended."""
        self.process.send_signal(signal.SIGKILL)
        return self.wait()

    def wait(self, seconds: float = END_SECONDS_MAX) -> int:
        """Waits for its end; returns the exit status."""
        status = self.process.wait(seconds)
        if self.process.stdout:
            self.process.stdout.close()
        return status

    def ask_to_stop(self) -> None:
        """Asks for a clean end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def is_alive(self) -> bool:
        """Tells whether it runs."""
        return self.process.poll() is None


def serve_command(directory: Path, flags: dict[str, Any]) -> list[str]:
    """Returns the command line of a server on free loopback ports."""
    pairs = [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
    addresses = ["--data-address", "127.0.0.1:0", "--settlement-address", "127.0.0.1:0"]
    command = [sys.executable, "-m", "lastunit_server", "serve", "--data-directory", str(directory)]
    return [*command, *addresses, *pairs]


def start(
    directory: Path, flags: dict[str, Any], environment: dict[str, str] | None = None
) -> Child:
    """Starts a server on a data directory and does not wait for it.

    Args:
        directory: The data directory; the log is put beside it.
        flags: Settings by name, for example `journal.segment_bytes`.
        environment: More variables, for example a failpoint.
    """
    outer = {key: value for key, value in os.environ.items() if not key.startswith("LASTUNIT_")}
    log = directory.parent / f"{directory.name}.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            serve_command(directory, flags),
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=outer | (environment or {}),
        )
    return Child(process, log)
