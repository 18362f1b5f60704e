"""The operator's mail server: a few connections that many messages share, and what its answers mean."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from typing import Final

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from lalert.errors import DeliveryError, Gone, PermanentFailure, TemporaryFailure

MAX_IDLE: Final = 30.0
"""Seconds after which an unused connection is not used again."""
GOODBYE_S: Final = 1.0
LOGIN_PAUSE: Final = 60.0
"""Seconds without another login after one was refused: servers lock accounts that fail too often."""

NO_SUCH_MAILBOX: Final = frozenset({"5.1.1", "5.1.6", "5.1.10"})
"""Only these say that nobody is there: no such mailbox, moved without a new address (RFC 3463, 3.2), a domain that takes no mail (RFC 7505, 4.2)."""
MAILBOX_FULL: Final = "5.2.2"
LOGIN_NEEDED: Final = 530
STORAGE: Final = 552
LEAVING: Final = 421

_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})\b")


@dataclass(frozen=True, slots=True)
class Login:
    """Where the server is and how it is spoken to; `context` is None where nothing is encrypted. `timeout` in seconds, for a whole message."""

    host: str
    port: int
    hello: str
    timeout: float
    implicit: bool
    context: ssl.SSLContext | None
    user: str = ""
    password: str = field(default="", repr=False)


class Server:
    """Sends over at most `connections` connections, which stay open from one message to the next."""

    def __init__(self, login: Login, connections: int) -> None:
        self._login = login
        self._room = asyncio.Semaphore(connections)
        self._idle: list[tuple[float, SMTP]] = []
        self.trouble = ""
        """Why nothing can be handed to the server at all; empty when it listened the last time."""

    async def send(self, sender: str, recipient: str, message: bytes) -> str:
        """Return the server's reply as code and enhanced code; raises `TemporaryFailure`, `PermanentFailure`, `Gone`.

        A connection that a message was broken off on is closed: the next must not be read as its rest.
        """
        async with self._room:
            try:
                async with asyncio.timeout(self._login.timeout):
                    return await self._send(await self._connection(), sender, recipient, message)
            except TimeoutError:
                self.trouble = f"the mail server gave no answer within {self._login.timeout:g} s"
                raise TemporaryFailure(self.trouble) from None

    async def close(self) -> None:
        """Take leave of the server, for at most a second."""
        idle, self._idle = [smtp for _, smtp in self._idle], []
        await asyncio.gather(*(_leave(smtp) for smtp in idle))

    async def _send(self, smtp: SMTP, sender: str, recipient: str, message: bytes) -> str:
        sound = False
        try:
            options = [] if recipient.isascii() else ["SMTPUTF8"]
            _, said = await smtp.sendmail(sender, [recipient], message, mail_options=options)
            sound = True
            self.trouble = ""
            return _words(250, said)
        except (SMTPRecipientsRefused, SMTPResponseException, SMTPNotSupported) as error:
            sound = _code(error) != LEAVING
            raise _judged(error) from None
        except TimeoutError:
            raise
        except (SMTPException, OSError) as error:
            raise TemporaryFailure(
                f"the connection to the mail server broke: {type(error).__name__}"
            ) from None
        except ValueError:
            raise PermanentFailure("the address cannot be written in SMTP") from None
        finally:
            if sound and smtp.is_connected:
                self._idle.append((asyncio.get_running_loop().time(), smtp))
            else:
                smtp.close()

    async def _connection(self) -> SMTP:
        while self._idle:
            since, smtp = self._idle.pop()
            if await _alive(smtp, asyncio.get_running_loop().time() - since):
                return smtp
        try:
            smtp = await self._dial()
        except TemporaryFailure as failure:
            self.trouble = failure.detail
            raise
        self.trouble = ""
        return smtp

    async def _dial(self) -> SMTP:
        login = self._login
        smtp = SMTP(
            hostname=login.host,
            port=login.port,
            local_hostname=login.hello,
            timeout=login.timeout,
            use_tls=login.implicit,
            start_tls=login.context is not None and not login.implicit,
            tls_context=login.context,
            username=login.user or None,
            password=login.password or None,
        )
        ready = False
        try:
            await smtp.connect()
            ready = True
            return smtp
        except TimeoutError:
            raise
        except SMTPAuthenticationError as error:
            raise TemporaryFailure(
                f"the mail server refuses the login ({_words(error.code, error.message)}): see user and password_file",
                retry_after=LOGIN_PAUSE,
            ) from None
        except SMTPResponseException as error:
            raise TemporaryFailure(
                f"the mail server takes nothing from this hub: {_words(error.code, error.message)}"
            ) from None
        except (SMTPException, OSError) as error:
            raise TemporaryFailure(_cause(error)) from None
        finally:
            if not ready:
                smtp.close()


async def _alive(smtp: SMTP, idle: float) -> bool:
    """Say whether an unused connection still answers; closes it if not. Servers hang up on whoever is silent, and after so many messages."""
    alive = False
    try:
        if idle <= MAX_IDLE and smtp.is_connected:
            await smtp.rset()
            alive = True
    except (SMTPException, OSError):
        alive = False
    finally:
        if not alive:
            smtp.close()
    return alive


async def _leave(smtp: SMTP) -> None:
    try:
        await smtp.quit(timeout=GOODBYE_S)
    except (SMTPException, OSError):
        pass
    finally:
        smtp.close()


def _judged(error: SMTPException) -> DeliveryError:
    """Say what a refusal means (RFC 5321, 4.2; RFC 3463).

    What is said before a recipient is named concerns this hub or its settings, so it is tried again: whoever mends them within the life of
    an alert still reaches everybody.
    """
    match error:
        case SMTPRecipientsRefused():
            [refused] = error.recipients
            return _of_recipient(refused.code, refused.message)
        case SMTPDataError() if error.code >= 500:
            return PermanentFailure(f"the message was refused: {_words(error.code, error.message)}")
        case SMTPSenderRefused() if error.code == STORAGE or _enhanced(error.message).startswith("5.6."):
            return PermanentFailure(f"the message was refused: {_words(error.code, error.message)}")
        case SMTPResponseException():
            return TemporaryFailure(f"the mail server refuses for now: {_words(error.code, error.message)}")
        case _:
            return PermanentFailure("the mail server takes no international addresses (SMTPUTF8)")


def _of_recipient(code: int, message: str) -> DeliveryError:
    said = _words(code, message)
    enhanced = _enhanced(message)
    # 552 for a recipient is an old way to say "too many now" (RFC 5321, 4.5.3.1.10), and a full mailbox may be emptied in time.
    if code < 500 or code in {LOGIN_NEEDED, STORAGE} or enhanced == MAILBOX_FULL:
        return TemporaryFailure(f"the recipient is refused for now: {said}")
    if enhanced in NO_SUCH_MAILBOX:
        return Gone(f"there is no such mailbox: {said}")
    return PermanentFailure(f"the recipient is refused: {said}")


def _words(code: int, message: str) -> str:
    """Return a reply without its text, in which servers repeat addresses."""
    return f"SMTP {code} {_enhanced(message)}".rstrip()


def _enhanced(message: str) -> str:
    found = _ENHANCED.match(message)
    return found[1] if found else ""


def _code(error: SMTPException) -> int:
    if isinstance(error, SMTPRecipientsRefused):
        return error.recipients[0].code
    return error.code if isinstance(error, SMTPResponseException) else 0


def _cause(error: BaseException) -> str:
    if type(error) in {SMTPException, SMTPNotSupported}:
        # The library has no kind of its own for a missing STARTTLS.
        return "the mail server does not offer what the settings ask for: see tls and user"
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ssl.SSLError):
        return "TLS with the mail server failed: its certificate or protocol was not accepted, see tls and ca_file"
    return f"cannot connect to the mail server: {type(error).__name__}"
