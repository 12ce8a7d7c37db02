"""Messages reach a real mail server, and no error ever shows an address."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from dataclasses import replace
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from tests.security.certificates import new_authority

from lastunit.account.identifiers import Identifier
from lastunit.account.senders import Message, NoSender, SandboxSender, SendError
from lastunit.account.smtp import (
    CONNECTIONS_MAX,
    MESSAGES_WAITING_MAX,
    SmtpSender,
    SmtpSettings,
)
from lastunit.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    Serve = Callable[..., Coroutine[None, None, "Server"]]

ANNA = Identifier.email("anna.smith@example.org")
BERT = Identifier.phone("+4930123456")
CODE = Message("Your code", "123456 is your code. It is good for 5 minutes.")


class Mailbox:
    """What a mail server does with what it is given; aiosmtpd calls the methods."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], bytes]] = []
        self.to_recipient = "250 OK"
        self.to_data = "250 OK"
        self.hold: asyncio.Event | None = None
        self.is_busy = asyncio.Event()
        self.at_once = 0
        self.at_once_max = 0

    async def handle_RCPT(  # noqa: N802 - named by aiosmtpd
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Takes a recipient or refuses it."""
        if self.to_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_recipient

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Takes a message or refuses it."""
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        if self.at_once >= 4:
            self.is_busy.set()
        if self.hold is not None:
            await self.hold.wait()
        self.at_once -= 1
        if self.to_data.startswith("250"):
            self.taken.append((envelope.rcpt_tos, envelope.content))
        return self.to_data

    def last(self) -> Any:
        """The message taken last, parsed."""
        return message_from_bytes(self.taken[-1][1])


class Server:
    """A mail server on loopback, in the test's own loop, and what it has taken."""

    def __init__(self, mailbox: Mailbox, listener: asyncio.Server) -> None:
        self.mailbox = mailbox
        self.listener = listener

    def settings(self, **changes: Any) -> SmtpSettings:
        """Returns how to reach it."""
        port = self.listener.sockets[0].getsockname()[1]
        plain = SmtpSettings(
            host="127.0.0.1", port=port, sender="shop@example.org", security="none"
        )
        return replace(plain, **changes)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Gives a maker of mail servers that are gone at the end."""
    listeners: list[asyncio.Server] = []
    sessions: list[SMTP] = []

    async def make(ssl_context: ssl.SSLContext | None = None, **options: Any) -> Server:
        loop, mailbox = asyncio.get_running_loop(), Mailbox()

        def session() -> SMTP:
            sessions.append(SMTP(mailbox, hostname="mail.test", loop=loop, **options))
            return sessions[-1]

        listener = await loop.create_server(session, "127.0.0.1", 0, ssl=ssl_context)
        listeners.append(listener)
        return Server(mailbox, listener)

    yield make
    for listener in listeners:
        listener.close()
    ends = []
    for session in sessions:
        if session.transport is not None:
            session.transport.abort()
        if session._handler_coroutine is not None:
            ends.append(session._handler_coroutine)
    await asyncio.gather(*ends, return_exceptions=True)
    # A socket is closed by the loop, a turn after its transport.
    await asyncio.sleep(0)


async def test_a_code_arrives_as_a_mail(serve: Serve) -> None:
    """A real server gets one message with sender, recipient, subject and text."""
    server = await serve()
    await SmtpSender(server.settings()).send(ANNA, CODE)
    mail = server.mailbox.last()

    assert server.mailbox.taken[0][0] == ["anna.smith@example.org"]
    assert (mail["From"], mail["To"]) == ("shop@example.org", "anna.smith@example.org")
    assert mail["Subject"] == "Your code"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_payload().strip() == CODE.text


async def test_a_text_message_goes_by_a_gateway(serve: Serve) -> None:
    """With a gateway's domain a phone number is reached by mail to its digits."""
    server = await serve()
    sender = SmtpSender(server.settings(phone_domain="sms.example.org"))
    await sender.send(BERT, CODE)

    assert server.mailbox.taken[0][0] == ["4930123456@sms.example.org"]


async def test_a_phone_without_a_gateway_is_refused(serve: Serve) -> None:
    """The error says which setting is missing, and trying again would not help."""
    with pytest.raises(SendError, match="PHONE_DOMAIN") as caught:
        await SmtpSender((await serve()).settings()).send(BERT, CODE)

    assert caught.value.is_final
    assert "4930123456" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "answer", "is_final"),
    [
        ("to_recipient", "550 5.1.1 <anna.smith@example.org> unknown", True),
        ("to_recipient", "450 4.2.1 <anna.smith@example.org> busy", False),
        ("to_data", "554 5.7.1 <anna.smith@example.org> is spam", True),
        ("to_data", "451 4.3.0 try again, <anna.smith@example.org>", False),
    ],
)
async def test_refusals_say_whether_to_try_again(
    serve: Serve, where: str, answer: str, is_final: bool
) -> None:
    """Codes of 500 and more are final; whatever the server says, the address is not repeated."""
    server = await serve()
    setattr(server.mailbox, where, answer)
    with pytest.raises(SendError, match=answer[:3]) as caught:
        await SmtpSender(server.settings()).send(ANNA, CODE)

    assert caught.value.is_final == is_final
    assert "anna" not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__suppress_context__


async def test_a_server_that_is_down_may_be_tried_again(serve: Serve) -> None:
    """A refused connection is not the identifier's fault."""
    server = await serve()
    settings = server.settings()
    server.listener.close()

    with pytest.raises(SendError, match="cannot be reached") as caught:
        await SmtpSender(settings).send(ANNA, CODE)
    assert not caught.value.is_final


async def test_nothing_is_sent_in_the_open_when_encryption_is_asked_for(
    serve: Serve,
) -> None:
    """A server that offers no STARTTLS gets no message."""
    server = await serve()
    with pytest.raises(SendError):
        await SmtpSender(server.settings(security="starttls")).send(ANNA, CODE)

    assert server.mailbox.taken == []


# The server takes no notice of encryption that begins with the first byte.
@pytest.mark.filterwarnings("ignore:Requiring AUTH")
@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_encrypted_and_logged_in(serve: Serve, tmp_path: Path, security: str) -> None:
    """Both ways of encryption reach a server that asks for a password and has our certificate."""
    authority = new_authority(tmp_path)
    leaf = authority.sign("mail", "IP:127.0.0.1,DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.certificate, leaf.key)
    known: list[bytes] = []

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        known.append(data.password)
        return AuthResult(success=data.password == b"a secret", handled=False)

    way: dict[str, Any] = {"tls_context": context, "require_starttls": True}
    if security == "tls":
        way = {"ssl_context": context, "auth_require_tls": False}
    server = await serve(
        authenticator=check, auth_required=True, auth_exclude_mechanism=["LOGIN"], **way
    )
    password_file = tmp_path / "password"
    password_file.write_text("a secret\n")
    settings = server.settings(
        security=security,
        user="shop",
        password_file=password_file,
        authorities_file=authority.certificate,
    )
    await SmtpSender(settings).send(ANNA, CODE)
    password_file.write_text("another")
    with pytest.raises(SendError, match="password") as wrong:
        await SmtpSender(settings).send(ANNA, CODE)
    with pytest.raises(SendError, match="cannot be reached"):
        await SmtpSender(replace(settings, authorities_file=None)).send(ANNA, CODE)

    assert known == [b"a secret", b"another"]
    assert len(server.mailbox.taken) == 1
    assert not wrong.value.is_final


async def test_connections_and_waiting_messages_are_bounded(
    serve: Serve,
) -> None:
    """A slow server is asked by eight at once; past 256 that wait, callers are sent away."""
    server = await serve()
    server.mailbox.hold = asyncio.Event()
    sender = SmtpSender(server.settings(), timeout_seconds=60.0)
    sends = [asyncio.create_task(sender.send(ANNA, CODE)) for _ in range(MESSAGES_WAITING_MAX)]
    await server.mailbox.is_busy.wait()
    with pytest.raises(BusyError, match="come back"):
        await sender.send(ANNA, CODE)
    server.mailbox.hold.set()
    await asyncio.gather(*sends)

    assert len(server.mailbox.taken) == MESSAGES_WAITING_MAX
    assert server.mailbox.at_once_max <= CONNECTIONS_MAX


def test_settings_come_from_the_environment() -> None:
    """Each variable has its place; STARTTLS is the default."""
    settings = SmtpSettings.from_environment(
        {
            "LASTUNIT_ACCOUNT_SMTP_ADDRESS": "mail.example.org:587",
            "LASTUNIT_ACCOUNT_SMTP_SENDER": "shop@example.org",
            "LASTUNIT_ACCOUNT_SMTP_PHONE_DOMAIN": "sms.example.org",
        }
    )

    assert (settings.host, settings.port, settings.security) == (
        "mail.example.org",
        587,
        "starttls",
    )
    assert settings.phone_domain == "sms.example.org"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ADDRESS": "mail.example.org"}, "ADDRESS"),
        ({"ADDRESS": "mail.example.org:0"}, "ADDRESS"),
        ({"ADDRESS": "mail.example.org:65536"}, "ADDRESS"),
        ({"SECURITY": "ssl"}, "SECURITY"),
        ({"SECURITY": "none"}, "starttls or tls"),
        ({"SENDER": "nobody"}, "SENDER"),
        ({"SENDER": ""}, "SENDER"),
        ({"USER": "shop"}, "PASSWORD_FILE"),
        ({"PASSWORD_FILE": "/tmp/x"}, "USER"),
        ({"PHONE_DOMAIN": "a b"}, "PHONE_DOMAIN"),
    ],
)
def test_settings_that_cannot_work_are_named(changes: dict[str, str], named: str) -> None:
    """The error names the variable to mend; codes are never sent in the open to another machine."""
    variables = {"ADDRESS": "mail.example.org:587", "SENDER": "shop@example.org", **changes}

    with pytest.raises(ValueError, match=named):
        SmtpSettings.from_environment(
            {f"LASTUNIT_ACCOUNT_SMTP_{name}": value for name, value in variables.items()}
        )


async def test_the_sandbox_keeps_messages_and_masks_its_file(tmp_path: Path) -> None:
    """A developer reads the code in a file that only they can read, without the identifier."""
    path = tmp_path / "messages.jsonl"
    sender = SandboxSender(path)
    await sender.send(ANNA, CODE)
    await sender.send(BERT, CODE)
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert [sent.identifier for sent in sender.sent] == [ANNA, BERT]
    assert [line["to"] for line in lines] == ["a*****@e*****.org", "+49*****456"]
    assert "123456 is" in lines[0]["text"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "anna" not in path.read_text()


async def test_without_a_sender_the_error_says_how_to_get_one() -> None:
    """The refusal names the flag."""
    with pytest.raises(SendError, match="--sender smtp") as caught:
        await NoSender().send(ANNA, CODE)

    assert caught.value.is_final


def test_a_message_never_shows_its_text() -> None:
    """A representation ends in logs, and the text may hold a code."""
    assert "123456" not in repr(CODE)
