"""`lalert org` and `lalert key`: over the running node's local socket, else on the store itself."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

import aiohttp
import click
from rich.console import Console
from rich.table import Table

from lalert.app import offline_administration, require_hub
from lalert.audit import line_of, published
from lalert.cli.settings import node_options, settings
from lalert.config import Settings
from lalert.errors import Refused, Unavailable
from lalert.model import Role, SignaturePolicy
from lalert.scores import cards_json
from lalert.store.audit import Document, Head, KeptLine
from lalert.web.admin import key_json, org_json, org_names, socket_path
from lalert.web.audit import LOCAL_PAGE

T = TypeVar("T")
Row = dict[str, Any]

_WIDE = 10_000


class OrgPolicy(TypedDict, total=False):
    """How an organisation's alerts are judged; what is left out is the default, or stays as it is."""

    tolerant: list[str]
    signatures: SignaturePolicy
    certificates: list[str]


class Office(Protocol):
    """What the commands ask for, whichever way it is done."""

    async def create_org(
        self, org: str, codes: list[str], senders: list[str], name: str, policy: OrgPolicy
    ) -> Row: ...

    async def update_org(self, org: str, policy: OrgPolicy) -> Row: ...

    async def orgs(self) -> list[Row]: ...

    async def create_key(
        self, org: str, role: Role, exercise_only: bool, expires: datetime | None, stations: list[str]
    ) -> str: ...

    async def keys(self, org: str | None) -> list[Row]: ...

    async def revoke_key(self, key: str) -> None: ...

    async def scorecards(self, org: str | None, sender: str | None, days: int) -> Row: ...

    async def audit_lines(self, after: int) -> list[KeptLine]: ...

    async def audit_heads(self) -> list[Head]: ...

    async def documents(self, after: str | None) -> list[Document]: ...


class SocketOffice:
    """Through the node that holds the store."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def _call(
        self,
        method: str,
        path: str,
        body: Row | None = None,
        query: Row | None = None,
        seconds: float | None = 300.0,
        raw: bytes | None = None,
    ) -> Row:
        url, timeout = f"http://node{path}", aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(
                method,
                url,
                json=body,
                data=None if raw is None else io.BytesIO(raw),
                params=query,
                timeout=timeout,
            ) as response:
                answer: Row = await response.json(content_type=None)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(
                "the node went away before it had answered: see whether it runs, and give the command again"
            ) from error
        if response.status >= 400:
            raise Refused(
                str(answer.get("detail", "the node refused it")), code=str(answer.get("code", "refused"))
            )
        return answer

    async def create_org(
        self, org: str, codes: list[str], senders: list[str], name: str, policy: OrgPolicy
    ) -> Row:
        body: Row = {"org": org, "codes": codes, "senders": senders, "name": name, **policy}
        return await self._call("POST", "/orgs", body)

    async def update_org(self, org: str, policy: OrgPolicy) -> Row:
        return await self._call("POST", "/orgs/set", {"org": org, **policy})

    async def orgs(self) -> list[Row]:
        return list((await self._call("GET", "/orgs"))["orgs"])

    async def create_key(
        self, org: str, role: Role, exercise_only: bool, expires: datetime | None, stations: list[str]
    ) -> str:
        body: Row = {"org": org, "role": role.value, "exercise_only": exercise_only}
        if stations:
            body["stations"] = stations
        if expires is not None:
            body["expires"] = expires.isoformat()
        return str((await self._call("POST", "/keys", body))["secret"])

    async def keys(self, org: str | None) -> list[Row]:
        return list((await self._call("GET", "/keys", query={"org": org} if org else None))["keys"])

    async def revoke_key(self, key: str) -> None:
        await self._call("POST", "/keys/revoke", {"key": key})

    async def scorecards(self, org: str | None, sender: str | None, days: int) -> Row:
        query: Row = {"days": str(days)}
        query |= {name: value for name, value in (("org", org), ("sender", sender)) if value is not None}
        return await self._call("GET", "/scorecards", query=query)

    async def audit_lines(self, after: int) -> list[KeptLine]:
        page = await self._call("GET", "/audit", query={"after": str(after)})
        return [line_of(line) for line in page["lines"]]

    async def audit_heads(self) -> list[Head]:
        return [Head.parse(head) for head in (await self._call("GET", "/audit/heads"))["heads"]]

    async def documents(self, after: str | None) -> list[Document]:
        page = await self._call("GET", "/audit/documents", query={"after": after} if after else None)
        return [Document(at, alert, bytes.fromhex(sha256)) for at, alert, sha256 in page["documents"]]

    async def take_stations(self, org: str, stations: list[Row], *, dry_run: bool) -> list[list[str]]:
        body = {"org": org, "stations": stations, "dry_run": dry_run}
        answer = await self._call("POST", "/stations", body, seconds=None)
        return [list(mistakes) for mistakes in answer["mistakes"]]

    async def change_station(self, org: str, station: str, patch: Row) -> Row:
        return await self._call("POST", "/stations/set", {"org": org, "station": station, "patch": patch})

    async def station_setups(self, org: str | None) -> list[Row]:
        return list((await self._call("GET", "/stations", query={"org": org} if org else None))["stations"])

    async def route(self, raw: bytes, query: Row) -> Row:
        """Ask the node for a dry run."""
        return await self._call("POST", "/route", query=query, raw=raw)

    async def channels(self) -> list[Row]:
        """Ask the node how each of its channels fares."""
        return list((await self._call("GET", "/channels"))["channels"])

    async def backup(self, file: Path, *, force: bool) -> int:
        """Have the node back its store up, which takes as long as it takes."""
        body = {"file": str(file), "force": force}
        return int((await self._call("POST", "/backup", body, seconds=None))["bytes"])


class StoreOffice:
    """On the store itself, while no node runs."""

    def __init__(self, administration: Any, scores: Any, store: Any) -> None:  # noqa: ANN401  # what the command line does not build
        self._administration = administration
        self._scores = scores
        self._store = store

    async def create_org(
        self, org: str, codes: list[str], senders: list[str], name: str, policy: OrgPolicy
    ) -> Row:
        return org_json(await self._administration.create_org(org, codes, senders, name, **policy))

    async def update_org(self, org: str, policy: OrgPolicy) -> Row:
        return org_json(await self._administration.update_org(org, **policy))

    async def orgs(self) -> list[Row]:
        return [org_json(tenant) for tenant in await self._administration.orgs()]

    async def create_key(
        self, org: str, role: Role, exercise_only: bool, expires: datetime | None, stations: list[str]
    ) -> str:
        new = await self._administration.create_key(
            org, role, exercise_only=exercise_only, expires=expires, stations=stations
        )
        return str(new.secret)

    async def keys(self, org: str | None) -> list[Row]:
        return [key_json(key) for key in await self._administration.keys(org)]

    async def revoke_key(self, key: str) -> None:
        await self._administration.revoke_key(key)

    async def scorecards(self, org: str | None, sender: str | None, days: int) -> Row:
        found = await self._scores.cards(org, sender, days)
        return cards_json(found, await org_names(self._administration))

    async def audit_lines(self, after: int) -> list[KeptLine]:
        return list(await self._store.audit_lines(after, LOCAL_PAGE))

    async def audit_heads(self) -> list[Head]:
        return [await self._store.audit_head(), *(one.head for one in await published(self._store))]

    async def documents(self, after: str | None) -> list[Document]:
        return list(await self._store.documents(after, LOCAL_PAGE))


def run(
    config_file: Path | None,
    data: Path | None,
    work: Callable[[Office], Awaitable[T]],
    *,
    reads: bool = False,
) -> T:
    """Do `work` with whichever office is open: the node's, if one answers on the socket, else the store's; for what only `reads` none is made."""
    chosen = settings(config_file, data)
    try:
        return ask_node(Path(chosen.hub.data), work)
    except NoNodeError:
        if reads:
            require_hub(chosen)
        return asyncio.run(_on_store(chosen, work))


class NoNodeError(Exception):
    """No node runs in this data directory."""


def ask_node(data: Path, work: Callable[[SocketOffice], Awaitable[T]]) -> T:
    """Do `work` with the node that runs in a data directory; raises `NoNodeError`."""
    if data.is_dir():
        with socket_path(data) as path:
            if path.is_socket():
                try:
                    return asyncio.run(_by_socket(path, work))
                except aiohttp.ClientConnectorError:
                    pass  # a socket that a killed node left behind: nobody answers, so the store is free
    raise NoNodeError


async def _by_socket(path: Path, work: Callable[[SocketOffice], Awaitable[T]]) -> T:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        return await work(SocketOffice(session))


async def _on_store(chosen: Settings, work: Callable[[Office], Awaitable[T]]) -> T:
    async with offline_administration(chosen) as (administration, scores, store):
        return await work(StoreOffice(administration, scores, store))


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --tolerant, --signatures and --certificate."""
    tolerant = click.option(
        "--tolerant",
        metavar="PATTERNS",
        help='Those of its senders whose alerts are taken in spite of repairable errors, comma-separated; "" for none.',
    )
    signatures = click.option(
        "--signatures",
        type=click.Choice([policy.value for policy in SignaturePolicy]),
        help="XML signatures: ignore (the default), verify if there is one, or require one that holds.",
    )
    certificates = click.option(
        "--certificate",
        "certificates",
        type=click.Path(path_type=Path),
        multiple=True,
        help="PEM file of the certificate that its signatures are checked with; may be given again. Replaces those of before.",
    )
    return tolerant(signatures(certificates(command)))


def _policy(tolerant: str | None, signatures: str | None, certificates: tuple[Path, ...]) -> OrgPolicy:
    policy = OrgPolicy()
    if tolerant is not None:
        policy["tolerant"] = _split(tolerant)
    if signatures is not None:
        policy["signatures"] = SignaturePolicy(signatures)
    if certificates:
        policy["certificates"] = [_pem(path) for path in certificates]
    return policy


def _pem(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise click.BadParameter(
            f"{path}: cannot be read ({error.strerror})", param_hint="--certificate"
        ) from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(
            f"{path}: is no PEM text; convert it with `openssl x509 -inform DER -in FILE -out FILE.pem`",
            param_hint="--certificate",
        ) from error


@click.group()
def org() -> None:
    """Organisations: who may alert for which places, as which CAP senders."""


@org.command("create")
@click.argument("org_id", metavar="ORG")
@click.option(
    "--codes", required=True, help="Municipality or prefecture codes, comma-separated, or the word all."
)
@click.option(
    "--senders",
    required=True,
    help="CAP senders it may use, comma-separated; shell patterns such as *@city.example",
)
@click.option("--name", default="", help="The name that people read.")
@policy_options
@node_options
def org_create(
    org_id: str,
    codes: str,
    senders: str,
    name: str,
    tolerant: str | None,
    signatures: str | None,
    certificates: tuple[Path, ...],
    config_file: Path | None,
    data: Path | None,
) -> None:
    """Add an organisation."""
    policy = _policy(tolerant, signatures, certificates)
    row = run(
        config_file,
        data,
        lambda office: office.create_org(org_id, _split(codes), _split(senders), name, policy),
    )
    _print_org(row)


@org.command("set")
@click.argument("org_id", metavar="ORG")
@policy_options
@click.option("--no-certificates", is_flag=True, help="Forget the pinned certificates.")
@node_options
def org_set(
    org_id: str,
    tolerant: str | None,
    signatures: str | None,
    certificates: tuple[Path, ...],
    no_certificates: bool,
    config_file: Path | None,
    data: Path | None,
) -> None:
    """Change how an organisation's alerts are judged. What is not named stays as it is."""
    if no_certificates and certificates:
        raise click.UsageError("--certificate and --no-certificates contradict each other")
    policy = _policy(tolerant, signatures, certificates)
    if no_certificates:
        policy["certificates"] = []
    if not policy:
        raise click.UsageError(
            "nothing to change: name --tolerant, --signatures, --certificate or --no-certificates"
        )
    _print_org(run(config_file, data, lambda office: office.update_org(org_id, policy)))


@org.command("list")
@node_options
def org_list(config_file: Path | None, data: Path | None) -> None:
    """List the organisations."""
    rows = run(config_file, data, lambda office: office.orgs())
    print_table(["org", "name", "codes", "senders", "tolerant", "signatures", "certificates"], rows)


@click.group()
def key() -> None:
    """Keys of the organisations."""


@key.command("create")
@click.option("--org", "org_id", required=True)
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]))
@click.option("--exercise-only", is_flag=True, help="The key can send Exercise and Test, never Actual.")
@click.option("--expires", help="When it ends, with its offset: 2027-03-31T23:59:59+09:00")
@click.option(
    "--station",
    "stations",
    multiple=True,
    help="Of a sensor key: the station that it may write readings of, or a pattern such as kuma-*; may be given several times.",
)
@node_options
def key_create(
    org_id: str,
    role: str,
    exercise_only: bool,
    expires: str | None,
    stations: tuple[str, ...],
    config_file: Path | None,
    data: Path | None,
) -> None:
    """Make a key and print it, alone on standard output. It is shown this once."""
    try:
        end = datetime.fromisoformat(expires) if expires else None
    except ValueError as error:
        raise click.BadParameter(
            f"{expires!r} is no date such as 2027-03-31T23:59:59+09:00", param_hint="--expires"
        ) from error
    click.echo(
        run(
            config_file,
            data,
            lambda office: office.create_key(org_id, Role(role), exercise_only, end, list(stations)),
        )
    )


@key.command("list")
@click.option("--org", "org_id")
@node_options
def key_list(org_id: str | None, config_file: Path | None, data: Path | None) -> None:
    """List the keys: ids and what they may do, never the secrets."""
    rows = run(config_file, data, lambda office: office.keys(org_id))
    print_table(["key", "org", "role", "exercise_only", "stations", "created", "expires", "revoked"], rows)


@key.command("revoke")
@click.argument("key_id", metavar="KEY")
@node_options
def key_revoke(key_id: str, config_file: Path | None, data: Path | None) -> None:
    """Revoke a key for good, by its id or the key itself. Open streams end within a second."""
    run(config_file, data, lambda office: office.revoke_key(key_id))
    click.echo("revoked")


def _print_org(row: Row) -> None:
    parts = [
        f"{row['org']}: {row['name']}",
        f"codes {', '.join(row['codes'])}",
        f"senders {', '.join(row['senders'])}",
        f"tolerant {', '.join(row['tolerant']) or 'none'}",
        f"signatures {row['signatures']}",
    ]
    click.echo(", ".join(parts))
    for certificate in row["certificates"]:
        click.echo(
            f"certificate {certificate['fingerprint']}, {certificate['subject']}, until {certificate['ends']}"
            f"{', an authority: whomever it issues to may sign' if certificate['authority'] else ''}"
        )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def print_table(columns: list[str], rows: list[Row]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    # A program that reads the list must not find a value broken over two lines.
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_word, value)) or "-"
    return (
        {True: "yes", False: "no", None: "-"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _word(value: object) -> str:
    if isinstance(value, dict):  # a certificate
        return f"{value['fingerprint'][:16]}({value['ends'][:10]})"
    return str(value)
