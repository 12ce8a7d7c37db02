"""A secured server as a test sees it: files, settings, clients with and without keys."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import httpx
from tests.conformance.kit import SECONDS_MAX, Bearer, Ledger, Server, refused, start_server

from lastunit_server.tokens import new_token

from .certificates import Authority, Pair, new_authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conformance.kit import Refused

LOCAL = "DNS:localhost,IP:127.0.0.1"


def read(file: Path) -> bytes:
    """Returns a file's bytes."""
    return file.read_bytes()


@dataclass
class Door:
    """Everything around one secured server: where its files are and how to change them."""

    directory: Path
    authority: Authority
    pair: Pair
    tokens: dict[str, str] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    server: Server | None = None
    is_mutual: bool = False
    # Which front its ledgers call: nothing for grpcio, `native_`.
    prefix: str = ""

    @property
    def settings_file(self) -> Path:
        """Returns the settings file."""
        return self.directory / "server.toml"

    @property
    def tokens_file(self) -> Path:
        """Returns the file of digests."""
        return self.directory / "tokens.toml"

    def give_token(self, caller: str, **fields: Any) -> str:
        """Makes a token for a caller and adds its row."""
        token, row = new_token(caller, identifier=None, expires=fields.get("expires"))
        self.tokens[caller] = token
        self.rows.append(row)
        self.tokens_file.write_text("\n".join(self.rows))
        return token

    def write(self, more: str = "", *, certificates: str = "") -> None:
        """Writes the settings file: TLS, tokens, and what the test adds."""
        mutual = f'client_authorities_file = "{self.authority.certificate}"\n'
        named = f"[authentication.certificates]\n{certificates}\n" if certificates else ""
        text = (
            f'[tls]\ncertificate_file = "{self.pair.certificate}"\n'
            f'private_key_file = "{self.pair.key}"\n{mutual if self.is_mutual else ""}'
            f'[authentication]\ntokens_file = "{self.tokens_file}"\n{named}{more}'
        )
        # Replaced as a whole, so that a reload never sees half of it.
        new = self.settings_file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.settings_file)

    def start(self, *flags: str) -> Server:
        """Starts the server."""
        self.server = start_server(
            self.directory, "--config", str(self.settings_file), "--durability", "memory", *flags
        )
        return self.server

    def channel(
        self,
        address: str,
        *,
        trusts: Authority | None = None,
        shows: Pair | None = None,
    ) -> grpc.Channel:
        """Opens a channel as a client that trusts the authority and shows a certificate."""
        credentials = grpc.ssl_channel_credentials(
            read((trusts or self.authority).certificate),
            read(shows.key) if shows else None,
            read(shows.certificate) if shows else None,
        )
        port = address.rpartition(":")[2]
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(f"localhost:{port}", credentials, options=options)

    def ledger(self, token: str = "", *, shows: Pair | None = None) -> Ledger:
        """Opens a ledger as a caller with a token or a certificate."""
        assert self.server is not None
        data, settlement = (
            self.server.ready[f"{self.prefix}{name}"] for name in ("data", "settlement")
        )
        return SecuredLedger(data, settlement, self, token, shows)

    def log(self) -> list[dict[str, Any]]:
        """Returns the server's log lines; what gRPC itself writes to stderr is left out."""
        assert self.server is not None
        lines = self.server.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(self, event: str, *, count: int = 1) -> dict[str, Any]:
        """Waits until a log line of that name has come so many times; returns the last."""
        end = time.monotonic() + SECONDS_MAX
        while True:
            found = [line for line in self.log() if line["event"] == event]
            if len(found) >= count:
                return found[-1]
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def change(self, change: Callable[[], object], *, event: str = "reloaded") -> dict[str, Any]:
        """Changes a file and waits until the server has said what it made of it."""
        count = sum(line["event"] == event for line in self.log())
        change()
        return self.wait_for(event, count=count + 1)


class SecuredLedger(Ledger):
    """A ledger behind TLS."""

    def __init__(
        self, data: str, settlement: str, door: Door, token: str, shows: Pair | None
    ) -> None:
        self.door, self.token, self.shows = door, token, shows
        super().__init__(data, settlement)

    def _channel(self, address: str) -> grpc.Channel:
        channel = self.door.channel(address, shows=self.shows)
        if self.token:
            channel = grpc.intercept_channel(channel, Bearer(self.token))
        self.channels.append(channel)
        return channel


def new_door(directory: Path, *, is_mutual: bool = False) -> Door:
    """Makes authority, certificate and an empty set of tokens."""
    authority = new_authority(directory)
    return Door(directory, authority, authority.sign("server", LOCAL), is_mutual=is_mutual)


def refusal_of(call: Callable[[], Any]) -> Refused:
    """Makes a call that must be refused; returns what was said."""
    try:
        found = call()
        if hasattr(found, "__next__"):
            next(found)
    except grpc.RpcError as error:
        return refused(error)
    raise AssertionError("the call was served")


def metric(server: Server, name: str, **labels: str) -> float:
    """Returns a metric's value; 0 if it is not there."""
    page = httpx.get(f"http://{server.ready['metrics']}/metrics", timeout=30).text
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    match = re.search(rf"^{name}\{{{re.escape(shown)}\}} (\S+)$", page, re.MULTILINE)
    return float(match[1]) if match else 0.0


def turned_away(server: Server, listener: str, reason: str) -> float:
    """Returns how often something was refused for a reason."""
    return metric(server, "lastunit_door_refusals_total", listener=listener, reason=reason)
