"""Sends messages by mail, and text messages by a gateway that takes mail.

Owns the connection to a mail server and what its answers mean. Must not log an address.
Next: `lastunit.account.senders`; docs/operating/accounts-privacy.md for the settings.

Each message has a connection of its own: a code is wanted now and then, and a server may close an
idle connection at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from lastunit.account.identifiers import Identifier, IdentifierError, IdentifierKind
from lastunit.account.senders import Message, SendError
from lastunit.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SmtpSender", "SmtpSettings"]

Security = Literal["tls", "starttls", "none"]

ENVIRONMENT_PREFIX: Final = "LASTUNIT_ACCOUNT_SMTP_"

# A person waits for the code; a server that takes longer is as good as down.
TIMEOUT_SECONDS: Final = 10.0

# Connections at once, and messages that wait for one. Past that a caller is told to come back:
# who waits longer than a few seconds asks again anyway.
CONNECTIONS_MAX: Final = 8
MESSAGES_WAITING_MAX: Final = 256

# 5yz means never, 4yz means later. Source: RFC 5321, 4.2.1.
_NEVER: Final = range(500, 600)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Says which mail server to use.

    Attributes:
        host: Its name or address.
        port: 1 to 65535; 465 is usual for `tls`, 587 for `starttls`.
        sender: The address in From.
        security: `tls` from the first byte, `starttls` before anything is said, or `none`, which
            only a server on loopback may have: codes are secrets.
        user: To log in with; empty for none.
        password_file: Holds the password in one line; needed with a user.
        authorities_file: PEM of the authorities whose certificates are believed; the system's if
            None.
        phone_domain: Mail to `<digits>@` this domain becomes a text message; empty: phone numbers
            cannot be reached.
    """

    host: str
    port: int
    sender: str
    security: Security = "starttls"
    user: str = ""
    password_file: Path | None = None
    authorities_file: Path | None = None
    phone_domain: str = ""

    def __post_init__(self) -> None:
        """Refuses what cannot work or would send codes in the open.

        Raises:
            ValueError: Which setting is wrong.
        """
        prefix = ENVIRONMENT_PREFIX
        if not self.host or not 1 <= self.port <= 65_535:  # noqa: PLR2004 - ports end there
            raise ValueError(f"{prefix}ADDRESS must be host:port, such as mail.example.org:587")
        if self.security not in get_args(Security):
            raise ValueError(f"{prefix}SECURITY must be tls, starttls or none")
        if self.security == "none" and not _is_loopback(self.host):
            raise ValueError(
                f"{prefix}SECURITY is none, but {self.host} is not this machine: codes would be"
                " sent in the open; use starttls or tls"
            )
        try:
            Identifier.email(self.sender)
        except IdentifierError:
            raise ValueError(f"{prefix}SENDER must be the address to send from") from None
        if bool(self.user) != (self.password_file is not None):
            raise ValueError(f"{prefix}USER and {prefix}PASSWORD_FILE belong together; set both")
        if self.phone_domain and not self._can_mail_phones():
            raise ValueError(f"{prefix}PHONE_DOMAIN must be a domain, such as sms.example.org")

    def _can_mail_phones(self) -> bool:
        with contextlib.suppress(IdentifierError):
            return Identifier.email(f"4930123456@{self.phone_domain}") is not None
        return False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SmtpSettings:
        """Reads LASTUNIT_ACCOUNT_SMTP_ADDRESS and its kin.

        Raises:
            ValueError: Which variable is missing or wrong.
        """

        def text(name: str, default: str = "") -> str:
            return environment.get(f"{ENVIRONMENT_PREFIX}{name}", default)

        def file(name: str) -> Path | None:
            return Path(text(name)) if text(name) else None

        host, _, port = text("ADDRESS").rpartition(":")
        security = text("SECURITY", "starttls")
        return cls(
            host=host.strip("[]"),
            port=int(port) if port.isdecimal() else 0,
            sender=text("SENDER"),
            security=security,  # type: ignore[arg-type]  # checked by the class
            user=text("USER"),
            password_file=file("PASSWORD_FILE"),
            authorities_file=file("AUTHORITIES_FILE"),
            phone_domain=text("PHONE_DOMAIN"),
        )


class SmtpSender:
    """Sends by a mail server.

    Args:
        settings: Which one.
        timeout_seconds: Seconds for each answer of the server, more than 0.

    Raises:
        OSError: A file of the settings cannot be read.
    """

    def __init__(self, settings: SmtpSettings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._password = ""
        if settings.password_file is not None:
            self._password = settings.password_file.read_text(encoding="utf-8").strip()
        authorities = settings.authorities_file
        self._tls = ssl.create_default_context(cafile=str(authorities) if authorities else None)
        # Threads of its own: a mail server that hangs must not hold up anything else.
        self._threads = ThreadPoolExecutor(CONNECTIONS_MAX, thread_name_prefix="smtp")
        self._waiting = 0

    async def send(self, identifier: Identifier, message: Message) -> None:
        """Hands a message to the mail server.

        Raises:
            SendError: It was not taken.
            BusyError: Too many messages wait for the server.
        """
        mail = self._mail(identifier, message)
        if self._waiting >= MESSAGES_WAITING_MAX:
            raise BusyError(
                "too many messages wait for the mail server; come back soon",
                limit=MESSAGES_WAITING_MAX,
            )
        self._waiting += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._hand_over, mail)
        finally:
            self._waiting -= 1

    def _mail(self, identifier: Identifier, message: Message) -> EmailMessage:
        recipient = identifier.normalized
        if identifier.kind is IdentifierKind.PHONE:
            if not self._settings.phone_domain:
                raise SendError(
                    "no text messages are sent; set LASTUNIT_ACCOUNT_SMTP_PHONE_DOMAIN to a"
                    " gateway that takes mail",
                    is_final=True,
                )
            recipient = f"{recipient.removeprefix('+')}@{self._settings.phone_domain}"
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._settings.sender
        mail["To"] = recipient
        mail["Subject"] = message.subject
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain=self._settings.sender.rpartition("@")[2])
        # No holiday answers to a machine. Source: RFC 3834, 5.
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail

    def _hand_over(self, mail: EmailMessage) -> None:
        """Runs in a thread of its own; every error of the library may repeat the address."""
        try:
            with self._connected() as server:
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise _refused(codes[0] if codes else 0, "the recipient") from None
        except smtplib.SMTPAuthenticationError as error:
            # Ours to mend: the recipient is not to blame, however final the server is.
            raise SendError(
                f"the mail server refused the user's password ({error.smtp_code})", is_final=False
            ) from None
        except smtplib.SMTPNotSupportedError:
            raise SendError("the mail server cannot do what this needs", is_final=True) from None
        except smtplib.SMTPResponseException as error:
            raise _refused(error.smtp_code, "the message") from None
        except (smtplib.SMTPException, OSError) as error:
            raise SendError(
                f"the mail server cannot be reached ({type(error).__name__})", is_final=False
            ) from None

    @contextlib.contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        settings = self._settings
        timeout = self._timeout_seconds
        server: smtplib.SMTP
        if settings.security == "tls":
            server = smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=timeout, context=self._tls
            )
        else:
            server = smtplib.SMTP(settings.host, settings.port, timeout=timeout)
        try:
            if settings.security == "starttls":
                # Raises if the server offers none: nothing is ever sent in the open.
                server.starttls(context=self._tls)
            if settings.user:
                server.login(settings.user, self._password)
            yield server
            with contextlib.suppress(smtplib.SMTPException, OSError):
                # The message is the server's already.
                server.quit()
        finally:
            server.close()


def _refused(code: int, what: str) -> SendError:
    return SendError(f"the mail server refused {what} ({code})", is_final=code in _NEVER)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return False
