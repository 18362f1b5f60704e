"""`lalert org` and `lalert key`: over the running node's local socket, else on the store itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
import click
from rich.console import Console
from rich.table import Table

from lalert.app import offline_administration
from lalert.cli.settings import node_options, settings
from lalert.errors import Refused
from lalert.model import Role
from lalert.web.admin import key_json, org_json, socket_path

T = TypeVar("T")
Row = dict[str, Any]


class Office(Protocol):
    """What the commands ask for, whichever way it is done."""

    async def create_org(self, org: str, codes: list[str], senders: list[str], name: str) -> Row: ...

    async def orgs(self) -> list[Row]: ...

    async def create_key(
        self, org: str, role: Role, exercise_only: bool, expires: datetime | None
    ) -> str: ...

    async def keys(self, org: str | None) -> list[Row]: ...

    async def revoke_key(self, key: str) -> None: ...


class SocketOffice:
    """Through the node that holds the store."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def _call(self, method: str, path: str, body: Row | None = None, query: Row | None = None) -> Row:
        async with self._session.request(method, f"http://node{path}", json=body, params=query) as response:
            answer: Row = await response.json(content_type=None)
            if response.status >= 400:
                raise Refused(
                    str(answer.get("detail", "the node refused it")), code=str(answer.get("code", "refused"))
                )
            return answer

    async def create_org(self, org: str, codes: list[str], senders: list[str], name: str) -> Row:
        return await self._call(
            "POST", "/orgs", {"org": org, "codes": codes, "senders": senders, "name": name}
        )

    async def orgs(self) -> list[Row]:
        return list((await self._call("GET", "/orgs"))["orgs"])

    async def create_key(self, org: str, role: Role, exercise_only: bool, expires: datetime | None) -> str:
        body: Row = {"org": org, "role": role.value, "exercise_only": exercise_only}
        if expires is not None:
            body["expires"] = expires.isoformat()
        return str((await self._call("POST", "/keys", body))["secret"])

    async def keys(self, org: str | None) -> list[Row]:
        return list((await self._call("GET", "/keys", query={"org": org} if org else None))["keys"])

    async def revoke_key(self, key: str) -> None:
        await self._call("POST", "/keys/revoke", {"key": key})


class StoreOffice:
    """On the store itself, while no node runs."""

    def __init__(self, administration: Any) -> None:  # noqa: ANN401  # tenancy.Administration, which the command line does not build
        self._administration = administration

    async def create_org(self, org: str, codes: list[str], senders: list[str], name: str) -> Row:
        return org_json(await self._administration.create_org(org, codes, senders, name))

    async def orgs(self) -> list[Row]:
        return [org_json(tenant) for tenant in await self._administration.orgs()]

    async def create_key(self, org: str, role: Role, exercise_only: bool, expires: datetime | None) -> str:
        new = await self._administration.create_key(org, role, exercise_only=exercise_only, expires=expires)
        return str(new.secret)

    async def keys(self, org: str | None) -> list[Row]:
        return [key_json(key) for key in await self._administration.keys(org)]

    async def revoke_key(self, key: str) -> None:
        await self._administration.revoke_key(key)


def run(config_file: Path | None, data: Path | None, work: Callable[[Office], Awaitable[T]]) -> T:
    """Do `work` with whichever office is open: the node's, if one answers on the socket, else the store's."""
    folder = Path(settings(config_file, data).hub.data)

    if folder.is_dir():
        with socket_path(folder) as path:
            if path.is_socket():
                try:
                    return asyncio.run(_by_socket(path, work))
                except aiohttp.ClientConnectorError:
                    pass  # a socket that a killed node left behind: nobody answers, so the store is free
    return asyncio.run(_on_store(folder, work))


async def _by_socket(path: Path, work: Callable[[Office], Awaitable[T]]) -> T:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        return await work(SocketOffice(session))


async def _on_store(folder: Path, work: Callable[[Office], Awaitable[T]]) -> T:
    async with offline_administration(folder) as administration:
        return await work(StoreOffice(administration))


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
@node_options
def org_create(
    org_id: str, codes: str, senders: str, name: str, config_file: Path | None, data: Path | None
) -> None:
    """Add an organisation."""
    row = run(
        config_file, data, lambda office: office.create_org(org_id, _split(codes), _split(senders), name)
    )
    click.echo(
        f"{row['org']}: {row['name']}, codes {', '.join(row['codes'])}, senders {', '.join(row['senders'])}"
    )


@org.command("list")
@node_options
def org_list(config_file: Path | None, data: Path | None) -> None:
    """List the organisations."""
    rows = run(config_file, data, lambda office: office.orgs())
    _print(["org", "name", "codes", "senders"], rows)


@click.group()
def key() -> None:
    """Keys of the organisations."""


@key.command("create")
@click.option("--org", "org_id", required=True)
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]))
@click.option("--exercise-only", is_flag=True, help="The key can send Exercise and Test, never Actual.")
@click.option("--expires", help="When it ends, with its offset: 2027-03-31T23:59:59+09:00")
@node_options
def key_create(
    org_id: str,
    role: str,
    exercise_only: bool,
    expires: str | None,
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
        run(config_file, data, lambda office: office.create_key(org_id, Role(role), exercise_only, end))
    )


@key.command("list")
@click.option("--org", "org_id")
@node_options
def key_list(org_id: str | None, config_file: Path | None, data: Path | None) -> None:
    """List the keys: ids and what they may do, never the secrets."""
    rows = run(config_file, data, lambda office: office.keys(org_id))
    _print(["key", "org", "role", "exercise_only", "created", "expires", "revoked"], rows)


@key.command("revoke")
@click.argument("key_id", metavar="KEY")
@node_options
def key_revoke(key_id: str, config_file: Path | None, data: Path | None) -> None:
    """Revoke a key for good, by its id or the key itself. Open streams end within a second."""
    run(config_file, data, lambda office: office.revoke_key(key_id))
    click.echo("revoked")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _print(columns: list[str], rows: list[Row]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    Console(soft_wrap=True).print(table)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return (
        {True: "yes", False: "no", None: "-"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )
