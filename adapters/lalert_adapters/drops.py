"""Files handed over in a folder or by HTTP POST, for adapters whose far end is a machine of the operator's own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from lalert.errors import ConfigError, PermanentFailure, TemporaryFailure

REFUSED: Final = frozenset({400, 406, 409, 413, 414, 415, 422})
"""Answers that speak of the file itself. All others may be mended at the far end or in the configuration, while the alert still holds."""
MAX_RETRY_AFTER: Final = 3_600
MAX_TOKEN: Final = 4_096


class Drop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where files go: into `folder`, or by POST to `url`, with the bearer token in `token_file` where there is one."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    folder: str = ""
    url: str = ""
    token_file: str = ""
    allow_http: bool = False
    """Take an `http:` address: everybody on the way can then read, and put something else in its place."""

    def __post_init__(self) -> None:
        if bool(self.folder) == bool(self.url):
            raise ValueError(f"{self.name}: give folder or url, and not both")
        if self.folder and (self.token_file or self.allow_http):
            raise ValueError(f"{self.name}: token_file and allow_http belong to url")
        if self.url:
            _check(self.url, self.name, allow_http=self.allow_http)


@dataclass(frozen=True, slots=True)
class File:
    """What is handed over: a file's plain name, its bytes, and what they are."""

    name: str
    body: bytes
    media_type: str


def write(folder: Path, files: Sequence[File], *, make: bool = False) -> None:
    """Put files into a folder, one after the other, each there as a whole or not at all, and on disk before this returns. Blocks.

    A file of the same name is replaced. The folder has to exist unless `make`: a share that is not mounted must not be taken for its mount point.
    Raises `TemporaryFailure`.
    """
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            _put(folder, file)
        _sync(folder)
    except OSError as error:
        # Whoever mends the share or makes room while the alert holds still gets it.
        raise TemporaryFailure(
            f"the folder cannot be written: {error.strerror or type(error).__name__}"
        ) from None


async def post(http: aiohttp.ClientSession, drop: Drop, file: File, key: str, timeout_s: float) -> str:
    """Post a file with `Idempotency-Key: key`, and return the answer in a word; raises `TemporaryFailure`, `PermanentFailure`."""
    return await _posted(http, drop, file.body, {"Content-Type": file.media_type}, key, timeout_s)


async def post_form(
    http: aiohttp.ClientSession, drop: Drop, files: Sequence[File], key: str, timeout_s: float
) -> str:
    """Post files in one request as `post` does one: parts of `multipart/form-data`, each named by what it is (`text`, `audio`)."""
    form = aiohttp.FormData(default_to_multipart=True)
    for file in files:
        kind = file.media_type.partition("/")[0]
        form.add_field(kind, file.body, filename=file.name, content_type=file.media_type)
    return await _posted(http, drop, form, {}, key, timeout_s)


async def _posted(
    http: aiohttp.ClientSession,
    drop: Drop,
    data: bytes | aiohttp.FormData,
    headers: dict[str, str],
    key: str,
    timeout_s: float,
) -> str:
    try:
        async with http.post(
            drop.url,
            data=data,
            headers={"Idempotency-Key": key, **headers, **_authority(drop)},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            return _judged(response.status, response.headers.get("Retry-After", ""))
    except TimeoutError:
        raise TemporaryFailure(f"no answer within {timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise TemporaryFailure(_cause(error)) from None


def check_token(drop: Drop) -> None:
    """Raise `ConfigError` if the token cannot be read; a token that is changed later is read with the next call."""
    try:
        _authority(drop)
    except TemporaryFailure as error:
        raise ConfigError([f"{drop.name}: {error.detail}"]) from None


def _check(url: str, name: str, *, allow_http: bool) -> None:
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0 and not (parts.username or parts.password)
    except ValueError:
        good, parts = False, urlsplit("")
    if not good or parts.scheme not in ("https", "http"):
        raise ValueError(
            f"{name}: url must be https:// and a host, without user name or password (use token_file)"
        )
    if parts.scheme == "http" and not allow_http:
        raise ValueError(f"{name}: url must begin with https://, or give allow_http = true for a closed line")


def _put(folder: Path, file: File) -> None:
    part = folder / f".{file.name}.{secrets.token_hex(4)}.part"
    # Not `mkstemp`: the reader is another user, so that the umask decides who may read.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(file.body)
            out.flush()
            os.fsync(out.fileno())
        part.replace(folder / file.name)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _authority(drop: Drop) -> dict[str, str]:
    if not drop.token_file:
        return {}
    try:
        with Path(drop.token_file).open("rb") as file:
            token = file.read(MAX_TOKEN + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not token.isprintable() or not 1 <= len(token) <= MAX_TOKEN:
        raise TemporaryFailure("token_file cannot be read, or holds no token")
    return {"Authorization": f"Bearer {token}"}


def _judged(status: int, retry_after: str) -> str:
    if 200 <= status <= 299:
        return f"HTTP {status}"
    if status in REFUSED:
        raise PermanentFailure(f"HTTP {status}: the file was refused")
    asked = retry_after.strip()
    seconds = float(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 6 else None
    raise TemporaryFailure(f"HTTP {status}", retry_after=min(seconds, MAX_RETRY_AFTER) if seconds else None)


def _cause(error: Exception) -> str:
    """Return why a call failed, without the address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "TLS failed: the certificate or the protocol was not accepted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    return f"the connection failed: {type(error).__name__}"
