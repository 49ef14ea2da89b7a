"""`webfoot keys`: who is let in."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from webfoot.access.key_setting import write_keys
from webfoot.access.keys import Key, check_tenant, lifetime, new_id, new_key, rotated
from webfoot.access.roles import check_patterns, read_policy
from webfoot.access.throttling import Limits, read_rate
from webfoot.cli.access import (
    ACCESS,
    AS_JSON,
    FORMATS,
    key_folder,
    last_uses,
    no_such,
    reading,
    settings_with_folder,
    write_minute,
    write_state,
    write_until,
)
from webfoot.cli.display import print_table
from webfoot.cli.options import STORE
from webfoot.quantities import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@click.group()
def keys() -> None:
    """Keys: while nobody has one, everybody on this machine is let in, and then nobody else."""


@keys.command("create")
@click.option(
    *("--role", "roles"),
    multiple=True,
    required=True,
    help="What its bearer is: admin, analyst, viewer, or one of the file's.",
)
@click.option("--name", default="", help="For whom, or for what, it is.")
@click.option(
    *("--udf", "udfs"),
    multiple=True,
    callback=reading(check_patterns),
    help="Only for UDFs like this, such as 'sales_*'; may be repeated.",
)
@FORMATS
@click.option(
    "--tenant",
    default="",
    callback=reading(check_tenant),
    help="Whose data it is for: no other tenant sees results.",
)
@click.option(
    "--expires",
    default="forever",
    show_default=True,
    callback=reading(lifetime),
    help="After how long, such as 30d.",
)
@click.option(
    "--rate",
    callback=reading(read_rate),
    help="How many requests in what time, such as 10/s.",
)
@click.option("--concurrency", type=click.IntRange(1), help="How many requests at once.")
@click.option("--daily", type=click.IntRange(1), help="How many requests a day.")
@click.option("--roles", "policy", help="The TOML file of roles.")
@ACCESS
@STORE
def create_key(access: str | None, store: str | None, policy: str | None, **given: Any) -> None:
    """Make a key, and print it: it is not shown again."""
    settings = settings_with_folder(access=access, store=store, roles=policy)
    known = read_policy(settings.roles).roles
    for role in given["roles"]:
        if role not in known:
            raise click.BadParameter(
                f"there is no role {role!r}; known: {', '.join(known)}", param_hint="--role"
            )
    key, text = new_key(_read_key(given))
    with key_folder(settings) as folder:
        folder.add_key(key)
    _show_key(key, text, settings.access_folder)


@keys.command("list")
@AS_JSON
@ACCESS
@STORE
def list_keys(as_json: bool, **options: Any) -> None:
    """List the keys that were given out."""
    settings = settings_with_folder(**options)
    last = last_uses(settings)
    with key_folder(settings) as folder:
        found = folder.all_keys()
    if as_json:
        told = [_for_scripts(key, last.get(key.principal.id)) for key in found]
        click.echo(json.dumps(told, indent=2))
        return
    heads = ("Id", "Name", "Roles", "Tenant", "UDFs", "Formats", "Limits")
    table = Table(*heads, "Created", "Last use", "State")
    for key in found:
        limits = " ".join(f"{name}={limit}" for name, limit in key.limits.plain().items())
        row = (
            *(key.id, key.name, " ".join(key.roles), key.tenant, " ".join(key.udfs)),
            *(" ".join(key.formats), limits),
            *(write_minute(key.created), write_minute(last.get(key.principal.id))),
            write_state(key.expires, key.revoked),
        )
        table.add_row(*map(Text, row))
    print_table(table)


@keys.command("revoke")
@click.argument("id")
@ACCESS
@STORE
def revoke_key(id: str, **options: Any) -> None:  # noqa: A002  # it is one
    """Make the key ID good for nothing, within a second, on all servers that share the folder."""
    with key_folder(settings_with_folder(**options)) as folder:
        if not folder.revoke("key", id):
            raise no_such("key", id)
    click.echo(f"the key {id} is revoked", err=True)


@keys.command("rotate")
@click.argument("id")
@click.option(
    "--grace",
    default="0",
    show_default=True,
    callback=reading(seconds),
    help="How long the old one is good, too.",
)
@ACCESS
@STORE
def rotate_key(id: str, grace: float, **options: Any) -> None:  # noqa: A002  # likewise
    """Give the key ID a new secret, and print the new key."""
    settings = settings_with_folder(**options)
    with key_folder(settings) as folder:
        key = folder.find(id)
        if key is None or key.revoked is not None:
            raise no_such("key", id)
        key, text = rotated(key, grace)
        folder.replace_key(key)
    _show_key(key, text, settings.access_folder)


@keys.command("export")
@ACCESS
@STORE
def export_keys(**options: Any) -> None:
    """Print the keys as hashes, for WEBFOOT_KEYS, where servers share no folder."""
    with key_folder(settings_with_folder(**options)) as folder:
        good = [key for key in folder.all_keys() if key.revoked is None]
        gone = [given.share.id for given in folder.all_shares() if given.revoked is not None]
        click.echo(write_keys(good, gone))


def _read_key(given: Mapping[str, Any]) -> Key:
    """What the options of `create` make, still without a secret."""

    def or_all(patterns: Sequence[str]) -> tuple[str, ...]:
        return tuple(patterns) or ("*",)

    now = time.time()
    return Key(
        id=new_id(),
        hash="",
        roles=tuple(given["roles"]),
        name=given["name"],
        tenant=given["tenant"],
        udfs=or_all(given["udfs"]),
        formats=or_all(given["formats"]),
        limits=Limits(given["rate"], given["concurrency"], given["daily"]),
        created=now,
        expires=now + given["expires"],
    )


def _show_key(key: Key, text: str, place: Path | None) -> None:
    # The key alone, so that a script can keep it; what else there is to say goes beside it.
    click.echo(text)
    click.echo(
        f"the key {key.id} is good {write_until(key.expires)}; keep it now, it is not shown again\n"
        f"servers with the folder {place} know it, and ask everybody for a key",
        err=True,
    )


def _for_scripts(key: Key, last: float | None) -> dict[str, Any]:
    """The key without what only a server needs, with all that is as always."""
    return {
        "id": key.id,
        "name": key.name,
        "roles": key.roles,
        "tenant": key.tenant,
        "udfs": key.udfs,
        "formats": key.formats,
        "limits": key.limits.plain(),
        "created": key.created,
        "expires": None if math.isinf(key.expires) else key.expires,
        "revoked": key.revoked,
        "last_use": last,
    }
