"""The callbacks the sandbox still has to send, with the faults they are sent with.

Owns their bodies, signatures, due times and retries. Must not send anything: whoever drives the
sandbox posts what is due and says how it went. Next: `lastunit.payment.sandbox.core`.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lastunit.payment import signature
from lastunit.payment.sandbox.knobs import Operation, SandboxKnobs

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from lastunit.service.clock import Clock

__all__ = ["CallbackQueue", "CallbackType", "Delivery"]

CallbackType = str
"""`payment.succeeded`, `payment.failed`, `payment.closed`, `refund.succeeded`, `refund.failed`."""

# A sale has thousands of callbacks on their way, not millions; beyond it something is wrong.
DELIVERIES_QUEUED_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Delivery:
    """Is one callback to be posted.

    Attributes:
        due_ms: When to post it, milliseconds since the epoch.
        serial: Breaks ties, so that a run repeats exactly.
        event_id: The event's id; a duplicate carries the same.
        headers: As they have to be sent.
        raw_body: The body's bytes.
        try_count: How often it was posted before, 0 or more.
    """

    due_ms: int
    serial: int
    event_id: str = field(compare=False)
    headers: dict[str, str] = field(compare=False)
    raw_body: bytes = field(compare=False)
    try_count: int = field(compare=False, default=0)


class CallbackQueue:
    """Keeps callbacks until they are due.

    Args:
        clock: Tells the time.
        random: Decides which callback has which fault.
        key: Secret that signs; the receiver knows it.
    """

    def __init__(self, clock: Clock, random: random.Random, *, key: bytes) -> None:
        if len(key) < signature.KEY_BYTES_MIN:
            raise ValueError(f"the key must have {signature.KEY_BYTES_MIN} bytes or more")
        self._clock = clock
        self._random = random
        self._key = key
        self._start_ms = clock.now_ms()
        self._heap: list[Delivery] = []
        self._serial = 0
        self.lost_count = 0
        self.given_up_count = 0

    def announce(
        self, event_id: str, body: dict[str, object], knobs: SandboxKnobs, *, wait_ms: int = 0
    ) -> None:
        """Queues the callback of one event, with the faults the knobs ask for.

        Args:
            event_id: Id of the event, unique in this sandbox.
            body: What is told beside that; written as JSON.
            knobs: The faults as they stand now.
            wait_ms: How long until it happens, milliseconds, 0 or more.
        """
        if self._happens(knobs.loss_probability):
            self.lost_count += 1
            return
        told = self._falsified({"event_id": event_id} | body, knobs)
        delay_ms = wait_ms + knobs.callback_delay_ms
        if knobs.callback_delay_mean_ms:
            delay_ms += round(self._random.expovariate(1 / knobs.callback_delay_mean_ms))
        if self._happens(knobs.reorder_probability):
            delay_ms += self._random.randint(1, max(1, knobs.reorder_delay_ms_max))
        due_ms = self._clock.now_ms() + delay_ms
        raw_body = json.dumps(told, separators=(",", ":")).encode()
        is_broken = self._happens(knobs.signature_fault_probability)
        self._push(due_ms, event_id, raw_body, knobs, is_broken=is_broken)
        if self._happens(knobs.duplicate_probability):
            self._push(due_ms + knobs.duplicate_delay_ms, event_id, raw_body, knobs)

    def next_ms(self) -> int | None:
        """Returns when the next callback is due, milliseconds since the epoch; None if none is."""
        return self._heap[0].due_ms if self._heap else None

    def take_due(self, now_ms: int, limit: int, knobs: SandboxKnobs) -> Sequence[Delivery]:
        """Takes the callbacks that are due, in order; those of an outage wait for its end.

        Args:
            now_ms: The time, milliseconds since the epoch.
            limit: At most so many, 1 or more.
            knobs: The faults as they stand now.
        """
        taken: list[Delivery] = []
        while self._heap and self._heap[0].due_ms <= now_ms and len(taken) < limit:
            delivery = heapq.heappop(self._heap)
            end_ms = knobs.down_until_ms(Operation.CALLBACK, now_ms - self._start_ms)
            if end_ms is None:
                taken.append(delivery)
            else:
                self._requeue(delivery, self._start_ms + end_ms, knobs, delivery.try_count)
        return taken

    def failed(self, delivery: Delivery, knobs: SandboxKnobs) -> None:
        """Queues a callback again that was not answered with 200, or gives it up.

        Args:
            delivery: What was posted.
            knobs: `retry_ms` has the waits; after the last one it is given up and counted.
        """
        if delivery.try_count >= len(knobs.retry_ms):
            self.given_up_count += 1
            return
        due_ms = self._clock.now_ms() + knobs.retry_ms[delivery.try_count]
        self._requeue(delivery, due_ms, knobs, delivery.try_count + 1)

    def __len__(self) -> int:
        """Returns how many callbacks wait."""
        return len(self._heap)

    def _requeue(
        self, delivery: Delivery, due_ms: int, knobs: SandboxKnobs, try_count: int
    ) -> None:
        self._push(due_ms, delivery.event_id, delivery.raw_body, knobs, try_count=try_count)

    def _push(
        self,
        due_ms: int,
        event_id: str,
        raw_body: bytes,
        knobs: SandboxKnobs,
        *,
        is_broken: bool = False,
        try_count: int = 0,
    ) -> None:
        if len(self._heap) >= DELIVERIES_QUEUED_MAX:
            raise OverflowError(f"{DELIVERIES_QUEUED_MAX} callbacks wait; is the webhook down?")
        timestamp = str((due_ms + knobs.clock_skew_ms) // 1000)
        signed = signature.sign(self._key, timestamp=timestamp, raw_body=raw_body)
        if is_broken:
            signed = "v1=" + "0" * 64
        headers = {
            "content-type": "application/json",
            signature.TIMESTAMP_HEADER: timestamp,
            signature.EVENT_ID_HEADER: event_id,
            signature.SIGNATURE_HEADER: signed,
        }
        self._serial += 1
        delivery = Delivery(due_ms, self._serial, event_id, headers, raw_body, try_count)
        heapq.heappush(self._heap, delivery)

    def _falsified(self, body: dict[str, object], knobs: SandboxKnobs) -> dict[str, object]:
        told = dict(body)
        if self._happens(knobs.amount_fault_probability):
            told["amount_minor"] = int(str(told["amount_minor"])) - 1
        if self._happens(knobs.currency_fault_probability):
            told["currency"] = "XXX"
        return told

    def _happens(self, probability: float) -> bool:
        # One draw for each knob that is on: knobs that are off do not disturb the sequence.
        return probability > 0 and self._random.random() < probability
