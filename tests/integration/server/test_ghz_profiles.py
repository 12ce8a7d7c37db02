"""The ghz profiles are calls of the contract, one for each method, that the ledger answers."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from bench.ghz_profiles import LISTENERS, profiles
from google.protobuf import json_format
from tests.conformance.kit import patiently, start_server

from lastunit.admission.v1 import admission_service_pb2, gate_pb2
from lastunit.stock.v1 import (
    journal_service_pb2,
    outcome_pb2,
    rehearsal_service_pb2,
    stock_admin_service_pb2,
    stock_service_pb2,
)

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.descriptor import MethodDescriptor

FILES = (
    stock_service_pb2,
    stock_admin_service_pb2,
    journal_service_pb2,
    admission_service_pb2,
    gate_pb2,
    rehearsal_service_pb2,
)
METHODS: dict[str, MethodDescriptor] = {
    method.full_name: method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
# Reserved by the one profile, so that what builds on any of them finds its own.
NUMBERS = (0, 1, 2)
RESERVED = sorted({base + number for base in (0, 2000, 3000, 4000, 4500) for number in NUMBERS})
# Outcomes that are the point of a profile, or all that it can have.
OTHERS = {
    "08-adjust-stock": {"OK", "COUNTER_MISMATCH"},
    "20-release-unverified": {"WRONG_STATE", "NOT_ALLOWED"},
}


def filled(text: str, number: int) -> str:
    """Fills in what ghz fills in."""
    text = text.replace("{{.RequestNumber}}", str(number))
    text = re.sub(r"{{add .RequestNumber (\d+)}}", lambda found: str(number + int(found[1])), text)
    return re.sub(r"{{newUUID}}", lambda _found: str(uuid.uuid4()), text)


def requests(profile: dict[str, Any], number: int) -> list[Any]:
    """Returns the messages of one call of a profile."""
    method = METHODS[profile["call"]]
    data = json.loads(filled(json.dumps(profile["data"]), number))
    rows = data if isinstance(data, list) else [data]
    return [json_format.ParseDict(row, method.input_type._concrete_class()) for row in rows]


def call(channel: grpc.Channel, profile: dict[str, Any], number: int) -> list[Any]:
    """Makes one call of a profile; returns the answers, of a watch the first."""
    method = METHODS[profile["call"]]
    path = f"/{method.containing_service.full_name}/{method.name}"
    messages = requests(profile, number)
    reads = {"response_deserializer": method.output_type._concrete_class.FromString}
    if method.client_streaming:
        stream = channel.stream_stream(path, **reads)(
            iter([message.SerializeToString() for message in messages]), timeout=30
        )
        return list(stream)
    [message] = messages
    if not method.server_streaming:
        unary = channel.unary_unary(path, **reads)
        return [patiently(lambda: unary(message.SerializeToString(), timeout=30))]
    stream = channel.unary_stream(path, **reads)(message.SerializeToString(), timeout=30)
    answers = list(itertools.islice(stream, profile.get("stream-call-count")))
    stream.cancel()
    return answers


def test_each_method_has_a_profile() -> None:
    """Who adds a method adds its load; only a manual clock's ledger serves rehearsals."""
    loaded = {profile["call"] for profile in profiles().values()}
    rehearsals = {name for name in METHODS if ".RehearsalService." in name}

    assert loaded == set(METHODS) - rehearsals


@pytest.mark.parametrize("prefix", ["", "native_"])
def test_each_profile_is_answered_with_ok_after_those_before_it(
    tmp_path: Path, prefix: str
) -> None:
    """In their order, on both fronts: no fault, and the outcome that the profile is about."""
    server = start_server(tmp_path, "--durability", "memory")
    channels = {
        host: grpc.insecure_channel(server.ready[prefix + listener])
        for host, listener in LISTENERS.items()
    }
    seen: dict[str, set[str]] = {}
    for name, profile in profiles().items():
        for number in RESERVED if name == "11-reserve" else NUMBERS:
            for answer in call(channels[profile["host"]], profile, number):
                assert not any(reply.HasField("fault") for reply in getattr(answer, "replies", ()))
                if "result" in answer.DESCRIPTOR.fields_by_name:
                    outcome = outcome_pb2.Outcome.Name(answer.result.outcome)
                    seen.setdefault(name, set()).add(outcome.removeprefix("OUTCOME_"))
    for channel in channels.values():
        channel.close()

    assert server.stop() == 0
    assert {
        name: found for name, found in seen.items() if not found <= OTHERS.get(name, {"OK"})
    } == {}
