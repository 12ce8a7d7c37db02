"""The declared rules say what they should: protovalidate finds just what each probe breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import protovalidate
import pytest

from lastunit.account.v1 import account_service_pb2
from lastunit.admission.v1 import admission_service_pb2
from lastunit.order.v1 import order_service_pb2
from lastunit.payment.v1 import payment_service_pb2
from lastunit.stock.v1 import (
    journal_service_pb2,
    rehearsal_service_pb2,
    stock_admin_service_pb2,
    stock_service_pb2,
)

from . import probes

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

FILES: Final = (
    account_service_pb2.DESCRIPTOR,
    admission_service_pb2.DESCRIPTOR,
    order_service_pb2.DESCRIPTOR,
    payment_service_pb2.DESCRIPTOR,
    journal_service_pb2.DESCRIPTOR,
    rehearsal_service_pb2.DESCRIPTOR,
    stock_admin_service_pb2.DESCRIPTOR,
    stock_service_pb2.DESCRIPTOR,
)
REQUESTS: Final[dict[str, Descriptor]] = {
    method.full_name: method.input_type
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
}


def find_broken(message: Message) -> list[tuple[str, str]]:
    """Lists the path of each field that breaks a rule, with the rule's name."""
    violations = protovalidate.collect_violations(message)
    return [(write_path(v), v.proto.rule_id) for v in violations]


def write_path(violation: protovalidate.Violation) -> str:
    """Writes a path as the ledger does: `lines[1].units`, `labels["tier"]`."""
    path = ""
    assert violation.proto.field is not None
    for element in violation.proto.field.elements:
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            path += f"[{probes.quote(value)}]" if isinstance(value, str) else f"[{value}]"
    return path


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_each_field_keeps_its_rules_at_its_limits_and_breaks_one_past_them(name: str) -> None:
    """The declared rules take each field at its limits and refuse it by name one past them."""
    for probe in probes.list_probes(REQUESTS[name]):
        expected = [probe.broken] if probe.broken else []

        assert expected == find_broken(probe.message), probe.message


def test_the_probes_reach_every_field_of_every_request() -> None:
    """No request field is without a probe that breaks a rule, but truth values and marks."""
    free = {"exchange_id", "policy"}
    for descriptor in REQUESTS.values():
        broken = {p.broken[0] for p in probes.list_probes(descriptor) if p.broken}
        reached = {path.split(".")[0].split("[")[0] for path in broken}
        fields = {f.name for f in descriptor.fields if f.type != f.TYPE_BOOL}

        assert fields - free <= reached, descriptor.full_name
