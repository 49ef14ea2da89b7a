"""`webfoot share`: links for those who can show no key."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from webfoot.access.guards import ANYBODY
from webfoot.access.issuing import EXPIRES, ShareTerms, extensions, link, new_share
from webfoot.access.keys import check_tenant
from webfoot.access.opening import access_of
from webfoot.access.principal import Principal
from webfoot.assembly import load_folder
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
from webfoot.cli.options import FOLDER_OPTION, STORE, pairs_of, settings_of, with_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOCAL = "http://localhost:8000"


class _ShareGroup(click.Group):
    """`webfoot share NAME` is `webfoot share create NAME`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names, or the usual one."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["create", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_ShareGroup)
def share() -> None:
    """Links to one table each, for spreadsheets and others who can show no key."""


@share.command("create")
@click.argument("name")
@click.argument("parameters", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--free", multiple=True, help="A parameter that readers may choose; '*' for all.")
@click.option("--expires", default=EXPIRES, show_default=True, help="After how long.")
@FORMATS
@click.option("--rate", default="", help="How many requests in what time, such as 10/m.")
@click.option(
    "--tenant", default="", callback=reading(check_tenant), help="Whose data it is about."
)
@click.option("--base-url", help="The server's address as its clients write it.")
@FOLDER_OPTION
@ACCESS
@STORE
def create_share(name: str, parameters: Sequence[str], tenant: str, **options: Any) -> None:
    """Make a link to the table of the UDF NAME with these parameters, and print it."""
    terms, others = _read_terms(parameters, options)
    settings = with_folder(settings_of(**others))
    giver = replace(ANYBODY, principal=Principal("operator", tenant))
    made = new_share(load_folder(settings).find(name), terms, giver)
    with contextlib.closing(access_of(settings)) as access:
        if not access.guard.asks():
            raise click.UsageError(
                "nobody has a key, so everybody may read the plain address; give out keys first"
                " (webfoot keys create --role analyst)"
            )
        token = access.give(made)
    first, *more = extensions(made)
    click.echo(link(made, token, settings.base_url or _LOCAL, first))
    also = f"; as {', '.join(f'.{other}' for other in more)}, too" if more else ""
    click.echo(f"the link {made.id} is good {write_until(made.expires)}{also}", err=True)
    if not settings.base_url:
        click.echo(
            f"{_LOCAL} is a guess: others need the server's own address, which --base-url or"
            " WEBFOOT_BASE_URL says",
            err=True,
        )


@share.command("list")
@AS_JSON
@ACCESS
@STORE
def list_shares(as_json: bool, **options: Any) -> None:
    """List the links that were given out."""
    settings = settings_with_folder(**options)
    last = last_uses(settings)
    with key_folder(settings) as folder:
        found = folder.all_shares()
    if as_json:
        told = [
            {**given.share.plain(), "created": given.created, "revoked": given.revoked}
            for given in found
        ]
        click.echo(json.dumps(told, indent=2))
        return
    heads = ("Id", "UDF", "Parameters", "Free", "Formats", "Rate", "Tenant", "By")
    table = Table(*heads, "Created", "Last use", "State")
    for given in found:
        one = given.share
        fixed = " ".join(f"{name}={','.join(texts)}" for name, texts in one.fixed.items())
        row = (
            *(one.id, one.udf, fixed, " ".join(one.free), " ".join(one.formats), one.rate),
            *(one.tenant, one.by),
            *(write_minute(given.created), write_minute(last.get(one.principal.id))),
            write_state(one.expires, given.revoked),
        )
        table.add_row(*map(Text, row))
    print_table(table)


@share.command("revoke")
@click.argument("id")
@ACCESS
@STORE
def revoke_share(id: str, **options: Any) -> None:  # noqa: A002  # it is one
    """Make the link ID good for nothing, within a second."""
    with key_folder(settings_with_folder(**options)) as folder:
        if not folder.revoke("share", id):
            raise no_such("link", id)
    click.echo(f"the link {id} is revoked", err=True)


def _read_terms(
    parameters: Sequence[str], options: Mapping[str, Any]
) -> tuple[ShareTerms, dict[str, Any]]:
    """What the options of `create` say of the link, and those that are settings."""
    own = ("free", "formats", "expires", "rate")
    terms = ShareTerms(pairs_of(parameters), *(options[name] for name in own))
    return terms, {name: value for name, value in options.items() if name not in own}
