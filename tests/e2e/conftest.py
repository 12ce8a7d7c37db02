"""What holds for each test of whole sales: it leaves nothing personal behind."""

from __future__ import annotations

from tests.plain_text import nothing_personal

__all__ = ["nothing_personal"]
