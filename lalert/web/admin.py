"""Administration over the node's local socket: the command line speaks here while the node holds the store's lock.

The socket lies in the data directory with mode 0600: whoever can open it could as well open the store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import orjson
from aiohttp import web

from lalert.cap import read_certificate
from lalert.errors import BadRequest
from lalert.model import Key, Role, SignaturePolicy, Tenant
from lalert.scores import Cards, cards_json
from lalert.store import MAX_DAYS
from lalert.store.audit import LOCAL, Action, Actor, Detail
from lalert.tenancy import Administration
from lalert.web.request import read_json

SOCKET_NAME = "admin.sock"
_SOCKET_NAME_MAX = 100

_Text = Annotated[str, msgspec.Meta(max_length=200)]
_Patterns = Annotated[list[_Text], msgspec.Meta(max_length=100)]
_Pems = Annotated[list[Annotated[str, msgspec.Meta(max_length=65_536)]], msgspec.Meta(max_length=20)]
_ORG_BYTES = 1_048_576


class NewOrg(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /orgs`."""

    org: _Text
    codes: Annotated[list[_Text], msgspec.Meta(max_length=2_000)]
    senders: Annotated[list[_Text], msgspec.Meta(max_length=100)]
    name: _Text = ""
    tolerant: _Patterns = []
    signatures: SignaturePolicy = SignaturePolicy.IGNORE
    certificates: _Pems = []


class OrgChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /orgs/set`: what is left out stays as it is."""

    org: _Text
    tolerant: _Patterns | None = None
    signatures: SignaturePolicy | None = None
    certificates: _Pems | None = None


class NewKeyOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /keys`."""

    org: _Text
    role: Role
    exercise_only: bool = False
    expires: datetime | None = None
    stations: _Patterns = []


class Revocation(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /keys/revoke`; `key` is an id or the secret itself."""

    key: _Text


class BackupOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /backup`; `file` is an absolute path on the node's machine."""

    file: Annotated[str, msgspec.Meta(max_length=4_096)]
    force: bool = False


@contextmanager
def socket_path(data: Path) -> Iterator[Path]:
    """Give the path of the socket in a data directory, by a short way round where it is longer than a socket's name may be (108 bytes)."""
    path = data / SOCKET_NAME
    if len(os.fsencode(path)) < _SOCKET_NAME_MAX:
        yield path
        return
    folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{folder}") / SOCKET_NAME
    finally:
        os.close(folder)


class Scorecards(Protocol):
    """What counts each sender's documents."""

    async def cards(self, org: str | None, sender: str | None, days: int) -> Cards: ...


class Audit(Protocol):
    """Where what is done here is noted, beside what `Administration` notes itself."""

    async def note(
        self,
        action: Action,
        subject: str,
        *,
        by: Actor,
        org: str = "",
        details: Mapping[str, Detail] | None = None,
    ) -> None: ...


class BackedUp(Protocol):
    """What can be backed up (`store.Portable`)."""

    async def backup(self, target: str, *, force: bool = False) -> int: ...


def routes(
    administration: Administration,
    changed: Callable[[], Awaitable[None]],
    scores: Scorecards,
    store: BackedUp,
    audit: Audit,
) -> list[web.RouteDef]:
    """Return the routes; `changed` is awaited after every change, so that the running node knows at once."""

    async def create_org(request: web.Request) -> web.Response:
        order: NewOrg = await read_json(request, NewOrg, _ORG_BYTES)
        tenant = await administration.create_org(
            order.org,
            order.codes,
            order.senders,
            order.name,
            tolerant=order.tolerant,
            signatures=order.signatures,
            certificates=order.certificates,
        )
        await changed()
        return _json(org_json(tenant))

    async def set_org(request: web.Request) -> web.Response:
        order: OrgChange = await read_json(request, OrgChange, _ORG_BYTES)
        tenant = await administration.update_org(
            order.org,
            tolerant=order.tolerant,
            signatures=order.signatures,
            certificates=order.certificates,
        )
        await changed()
        return _json(org_json(tenant))

    async def list_orgs(request: web.Request) -> web.Response:
        return _json({"orgs": [org_json(tenant) for tenant in await administration.orgs()]})

    async def create_key(request: web.Request) -> web.Response:
        order: NewKeyOrder = await read_json(request, NewKeyOrder)
        new = await administration.create_key(
            order.org,
            order.role,
            exercise_only=order.exercise_only,
            expires=order.expires,
            stations=order.stations,
        )
        await changed()
        return _json(key_json(new.key) | {"secret": new.secret})

    async def list_keys(request: web.Request) -> web.Response:
        return _json({"keys": [key_json(key) for key in await administration.keys(request.query.get("org"))]})

    async def revoke_key(request: web.Request) -> web.Response:
        order: Revocation = await read_json(request, Revocation)
        await administration.revoke_key(order.key)
        await changed()
        return _json({})

    async def scorecards(request: web.Request) -> web.Response:
        org, sender, days = (request.query.get(name) for name in ("org", "sender", "days"))
        if not (days and re.fullmatch(r"[0-9]{1,3}", days) and 1 <= int(days) <= MAX_DAYS):
            raise BadRequest(f"days: must be a whole number from 1 to {MAX_DAYS}")
        found = await scores.cards(org, sender, int(days))
        return _json(cards_json(found, await org_names(administration)))

    async def backup(request: web.Request) -> web.Response:
        order: BackupOrder = await read_json(request, BackupOrder)
        if not Path(order.file).is_absolute():
            raise BadRequest("file: must be an absolute path")
        size = await store.backup(order.file, force=order.force)
        await audit.note(Action.BACKED_UP, Path(order.file).name, by=LOCAL, details={"bytes": size})
        return _json({"bytes": size})

    return [
        web.post("/backup", backup),
        web.get("/scorecards", scorecards),
        web.post("/orgs", create_org),
        web.post("/orgs/set", set_org),
        web.get("/orgs", list_orgs),
        web.post("/keys", create_key),
        web.get("/keys", list_keys),
        web.post("/keys/revoke", revoke_key),
    ]


async def org_names(administration: Administration) -> dict[str, str]:
    """Return every organisation's name by its id."""
    return {tenant.id: tenant.name for tenant in await administration.orgs()}


def org_json(tenant: Tenant) -> dict[str, Any]:
    """Return an organisation as the command line prints it; of a certificate its SHA-256 and its last day."""
    pinned = [read_certificate(pem) for pem in tenant.certificates]
    return {
        "org": tenant.id,
        "name": tenant.name,
        "codes": ["all"] if tenant.everywhere else sorted(tenant.codes),
        "senders": list(tenant.senders),
        "tolerant": list(tenant.tolerant),
        "signatures": tenant.signatures.value,
        "certificates": [
            {
                "fingerprint": each.fingerprint,
                "subject": each.subject,
                "ends": each.ends.isoformat(),
                "authority": each.authority,
            }
            for each in pinned
        ],
    }


def key_json(key: Key) -> dict[str, Any]:
    """Return a key as the command line prints it: everything but the secret, which nobody has."""
    return {
        "key": key.id,
        "org": key.tenant,
        "role": key.role.value,
        "exercise_only": key.exercise_only,
        "stations": list(key.stations),
        "created": key.created.isoformat(timespec="seconds"),
        "expires": key.expires.isoformat(timespec="seconds") if key.expires else None,
        "revoked": key.revoked.isoformat(timespec="seconds") if key.revoked else None,
    }


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
