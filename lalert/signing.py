"""The key that the hub signs with what it issues itself: the operator's, or one of its own, made once and kept beside the store."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from lalert import cap
from lalert.clock import Clock
from lalert.errors import BadRequest, ConfigError, StoreError

log = structlog.get_logger()

FILE: Final = "signing.pem"
LIFETIME: Final = timedelta(days=3650)
SAME_KEY: Final = "hub.signing_key_file, hub.signing_certificate_file: the nodes of one store sign with the same key; give both to each of them"
NOTICE: Final = timedelta(days=60)

_KEY: Final = re.compile(r"-----BEGIN ([A-Z ]{0,20}PRIVATE KEY)-----[^-]{1,32768}-----END \1-----")


class Signing:
    """Knows the hub's signer; read or made when it is first asked for, in a thread, and then the same until the end.

    A key of its own is made only where the data directory has none. It is never replaced: who pinned its certificate would no longer
    believe this hub. Nodes that are one hub together (`shared`) have none of their own: each would sign with another.
    """

    def __init__(
        self,
        data: Path,
        clock: Clock,
        *,
        key_file: str,
        certificate_file: str,
        name: str,
        shared: bool = False,
    ) -> None:
        self._own = data / FILE
        self._clock = clock
        self._key_file = key_file
        self._certificate_file = certificate_file
        self._name = name
        self._shared = shared
        self._lock = asyncio.Lock()
        self._signer: cap.Signer | None = None

    @property
    def given(self) -> bool:
        """Say whether the operator brings a key."""
        return bool(self._key_file)

    async def signer(self) -> cap.Signer:
        """Return the signer. Raises `ConfigError` for the operator's files, `StoreError` for the hub's own."""
        async with self._lock:
            if self._signer is None:
                self._signer = await asyncio.to_thread(self._given if self.given else self._kept)
                self._look_at_the_calendar(self._signer)
        return self._signer

    def _given(self) -> cap.Signer:
        return read_signer(self._key_file, self._certificate_file)

    def _kept(self) -> cap.Signer:
        if self._shared:
            raise StoreError(SAME_KEY)
        try:
            text = self._own.read_text(encoding="ascii")
        except FileNotFoundError:
            return self._made()
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(self._own, "cannot be read") from error
        key = _KEY.search(text)
        if key is None:
            raise _unusable(self._own, "has no private key")
        try:
            return cap.signer(f"{key[0]}\n", _KEY.sub("", text))
        except BadRequest as error:
            raise _unusable(self._own, error.detail) from error

    def _made(self) -> cap.Signer:
        key, certificate = cap.make_signer(self._name, self._clock.now(), LIFETIME)
        try:
            # Both in one file: a crash can leave both or none, never a key whose certificate is another's.
            _write_once(self._own, f"{key}{certificate}")
        except OSError as error:
            raise StoreError(f"{self._own}: cannot be written ({error.strerror})") from error
        log.info("made a key to sign with", file=str(self._own))
        return cap.signer(key, certificate)

    def _look_at_the_calendar(self, signer: cap.Signer) -> None:
        ends = signer.certificate.ends
        if ends < self._clock.now() + NOTICE:
            log.warning(
                "the certificate that this hub signs with ends soon or has ended; see docs/signatures.md",
                ends=ends.isoformat(),
            )


def read_signer(key_file: str, certificate_file: str) -> cap.Signer:
    """Return the signer of the operator's files; raises `ConfigError`."""
    key = _read(key_file, "hub.signing_key_file")
    certificate = _read(certificate_file, "hub.signing_certificate_file")
    try:
        return cap.signer(key, certificate)
    except BadRequest as error:
        raise ConfigError([f"hub.signing_key_file, hub.signing_certificate_file: {error.detail}"]) from error


def _read(path: str, setting: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise ConfigError([f"{setting}: {path} cannot be read ({error.strerror})"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{setting}: {path} is no PEM text"]) from error


def _unusable(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"{path}: {reason}; restore it from a backup, or move it away: a new key is made then, and subscribers need its certificate"
    )


def _write_once(path: Path, text: str) -> None:
    draft = path.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
