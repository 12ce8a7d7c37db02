"""What holds for each test of the order service as a process: it leaves nothing personal behind."""

from __future__ import annotations

from tests.plain_text import nothing_personal

__all__ = ["nothing_personal"]
