"""The policy file while the server runs: read again when it changes.

Owns when to look and what is logged; must not judge a document (the node does) nor touch calls: the
node puts the new policy in force under a lock of its own, calls in flight and balances stay.
"""

import asyncio
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from lastunit_server import faults, logs
from lastunit_server.stamps import Stamp, stamp

if TYPE_CHECKING:
    from lastunit_server._native import Node

__all__ = ["PolicyWatch"]

# A change is in force within a second: a look four times as often, and a few stat calls a look.
_LOOK_SECONDS = 0.25
# As the node: a larger file is no policy, and is not read to find out.
_FILE_BYTES_MAX = 64 * 1024
_ACTOR = "policy-file"


class PolicyWatch:
    """Puts what the file says whenever it changes.

    Args:
        node: The open node.
        file: The policy file.
        seen: How it looked before it was read at the start.
    """

    def __init__(self, node: "Node", file: Path, seen: Stamp) -> None:
        self._node = node
        self._file = file
        self._seen = seen

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = stamp(self._file)
            if now != self._seen:
                # Taken before reading: what is written meanwhile is one more change.
                self._seen = now
                await asyncio.to_thread(self.reload)

    def reload(self) -> bool:
        """Reads the file and puts what it says.

        Returns:
            Whether it was put; otherwise the policy in force stays and the log says why.
        """
        try:
            if self._file.stat().st_size > _FILE_BYTES_MAX:
                return self._refused(f"is larger than {_FILE_BYTES_MAX} bytes")
            document = self._file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return self._refused(f"can't be read: {error}")
        held = json.loads(self._node.policy_json())["in_force"]
        if held and held["document"] == document:
            return True
        reason = f"{self._file.name} changed"[:256]
        code, body = self._node.put_policy(document, _ACTOR, reason, _ACTOR, "file")
        if code != 0:
            return self._refused(faults.refusal_from(code, body).message)
        put = json.loads(body)
        logs.event(
            "policy_put",
            file=str(self._file),
            revision=put["revision"],
            changes=[row["key"] for row in put["changes"]],
        )
        return True

    def _refused(self, problem: str) -> bool:
        logs.event(
            "policy_refused",
            level=logging.ERROR,
            file=str(self._file),
            problem=problem,
            advice="the policy in force stays; correct the file",
        )
        return False
