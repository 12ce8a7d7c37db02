"""TLS and mutual TLS: who can connect, and what a change of files does while the server runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.conformance.kit import ROOT, serve_command
from typer.testing import CliRunner

from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server.cli import app

from .certificates import Authority, Pair, new_authority
from .kit import LOCAL, Door

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = stock.GetReservationRequest(reservation_id="nobody")
LISTENERS = ("data", "settlement", "native_data", "native_settlement")


def reaches(door: Door, address: str, token: str, **channel: Any) -> bool:
    """Tells whether a call gets through the handshake; a refusal behind it counts as through."""
    with door.channel(address, **channel) as opened:
        call: Any = opened.unary_unary(
            "/lastunit.stock.v1.StockService/GetReservation",
            request_serializer=stock.GetReservationRequest.SerializeToString,
        )
        try:
            call(QUESTION, timeout=5, metadata=(("authorization", f"Bearer {token}"),))
        except grpc.RpcError as error:
            code = error.code()
            if code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}:
                raise
            return bool(code is grpc.StatusCode.UNAUTHENTICATED)
        return True


def put(pair: Pair, into: Pair) -> None:
    """Replaces a pair's files, the key first, as a careless script would."""
    for source, target in ((pair.key, into.key), (pair.certificate, into.certificate)):
        new = target.with_suffix(".new")
        shutil.copy(source, new)
        new.replace(target)


@pytest.mark.parametrize("listener", LISTENERS)
def test_only_who_trusts_the_authority_and_speaks_tls_connects(
    open_door: Door, listener: str
) -> None:
    """Plain text and a client of another authority end in the handshake; ours is served."""
    door, token = open_door, open_door.tokens["orders"]
    assert door.server is not None
    address = door.server.ready[listener]
    stranger = new_authority(door.directory, "stranger")

    assert reaches(door, address, token)
    assert not reaches(door, address, token, trusts=stranger)
    plain: Any = grpc.insecure_channel(address)
    call = plain.unary_unary("/lastunit.stock.v1.StockService/GetReservation")
    with plain, pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_asks_for_a_valid_certificate_of_the_authority(mutual_door: Door) -> None:
    """No certificate, one of a stranger and one that has ended don't connect; ours does."""
    door = mutual_door
    token = door.give_token("orders")
    door.write()
    ready = door.start().ready
    stranger = new_authority(door.directory, "stranger")
    ours, strange = door.authority.sign("orders"), stranger.sign("orders")
    ended = door.authority.sign("late", days=-1)
    for listener in LISTENERS:
        assert reaches(door, ready[listener], token, shows=ours)
        assert not reaches(door, ready[listener], token)
        assert not reaches(door, ready[listener], token, shows=strange)
        assert not reaches(door, ready[listener], token, shows=ended)


def test_a_renewed_certificate_is_used_without_a_restart(door: Door) -> None:
    """New connections get the new pair, on both listeners; open ones go on."""
    token = door.give_token("orders")
    door.write()
    ready = door.start().ready
    second = new_authority(door.directory, "second")
    ledger = door.ledger(token)
    ledger.sequence()

    door.change(lambda: put(second.sign("server", LOCAL), door.pair))

    for listener in LISTENERS:
        assert reaches(door, ready[listener], token, trusts=second)
        assert not reaches(door, ready[listener], token)
    ledger.sequence()
    ledger.close()


def test_a_renewed_client_authority_is_used_without_a_restart(mutual_door: Door) -> None:
    """Clients of the new authority connect, those of the old one no more."""
    door = mutual_door
    token = door.give_token("orders")
    door.write()
    ready = door.start().ready
    old = door.authority.sign("orders")
    trusted = Authority(door.directory, "trusted")
    shutil.copy(door.authority.certificate, trusted.certificate)
    second = new_authority(door.directory, "second")
    new = second.sign("orders")

    door.change(lambda: shutil.copy(second.certificate, door.authority.certificate))

    for listener in LISTENERS:
        assert reaches(door, ready[listener], token, trusts=trusted, shows=new)
        assert not reaches(door, ready[listener], token, trusts=trusted, shows=old)


def damage(door: Door, name: str) -> None:
    """Makes one of the files unusable."""
    match name:
        case "missing":
            door.pair.certificate.unlink()
        case "expired":
            put(door.authority.sign("ended", LOCAL, days=-1), door.pair)
        case "mismatched":
            shutil.copy(door.authority.sign("other", LOCAL).key, door.pair.key)
        case "empty":
            door.pair.certificate.write_bytes(b"")
        case "garbage":
            door.pair.key.write_bytes(os.urandom(300))
        case _:
            raise AssertionError(name)


DAMAGES = ("missing", "expired", "mismatched", "empty", "garbage")


@pytest.mark.parametrize("name", DAMAGES)
def test_unusable_files_are_told_with_setting_and_advice(door: Door, name: str) -> None:
    """check-config exits with 2 and names the file, the setting and what to do."""
    door.give_token("orders")
    door.write()
    damage(door, name)

    done = CliRunner().invoke(app, ["check-config", "--config", str(door.settings_file)])

    assert done.exit_code == 2
    assert str(door.pair.certificate) in done.stderr
    assert "tls.certificate_file" in done.stderr
    assert "; " in done.stderr
    assert "PRIVATE KEY" not in done.stderr


def test_a_server_with_unusable_files_does_not_start(door: Door) -> None:
    """Serve ends with 2 before it opens the data directory, with the words of check-config."""
    door.give_token("orders")
    door.write()
    damage(door, "mismatched")
    command = serve_command(door.directory, "--config", str(door.settings_file))

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False
    )

    assert done.returncode == 2
    assert "tls.certificate_file: is no pair with" in done.stderr
    assert not (door.directory / "data").exists()


def test_unusable_files_are_refused_at_reload_and_the_old_stay(door: Door) -> None:
    """The log names the file; new connections are served with the old pair as before."""
    token = door.give_token("orders")
    door.write()
    server = door.start()
    ready = server.ready
    unused = new_authority(door.directory, "unused")
    kept = {file: file.read_bytes() for file in (door.pair.key, door.pair.certificate)}

    def mend() -> None:
        for file, content in kept.items():
            file.write_bytes(content)

    for name in DAMAGES:
        line = door.change(partial(damage, door, name), event="reload_refused")
        assert str(door.pair.certificate) in line["problems"][0]
        assert line["level"] == "error"
        for listener in LISTENERS:
            assert reaches(door, ready[listener], token)
            assert not reaches(door, ready[listener], token, trusts=unused)
        mend()
        door.change(partial(server.process.send_signal, signal.SIGHUP))


def test_a_hangup_reads_everything_again(door: Door) -> None:
    """SIGHUP reloads although no file has changed."""
    door.give_token("orders")
    door.write()
    server = door.start()

    door.change(lambda: server.process.send_signal(signal.SIGHUP))

    assert server.process.poll() is None


def test_tls_is_not_switched_while_the_server_runs(door: Door, tmp_path: Path) -> None:
    """A settings file without TLS is refused at reload: it would need other listeners."""
    token = door.give_token("orders")
    door.write()
    ready = door.start().ready

    def remove() -> None:
        door.settings_file.write_text(f'[authentication]\ntokens_file = "{door.tokens_file}"\n')

    line = door.change(remove, event="reload_refused")

    assert "restart the server" in line["problems"][0]
    assert reaches(door, ready["data"], token)
    assert tmp_path == door.directory
