"""What the commands on keys and links share: where these are, and how their state is told."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from webfoot.access.key_folder import KeyFolder
from webfoot.access.usage import Usage
from webfoot.cli.options import settings_of
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from webfoot.settings import Settings

ACCESS = click.option(
    "--access", help="The folder of keys and links.  [default: `access` in the store]"
)
FORMATS = click.option(
    *("--format", "formats"),
    multiple=True,
    type=click.Choice(list(MEDIA_TYPES)),
    help="Only in this format; may be repeated.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For scripts.")


def settings_with_folder(**options: Any) -> Settings:
    """The settings that the options of a command make.

    Raises:
        click.UsageError: If they name no folder for keys.
    """
    settings = settings_of(**options)
    if settings.access_folder is None:
        raise click.UsageError(
            f"the store is {settings.store}, which has no place for keys; name a folder with"
            " --access, and hand its keys to servers that cannot reach it by `webfoot keys export`"
        )
    return settings


@contextmanager
def key_folder(settings: Settings) -> Iterator[KeyFolder]:
    """The folder, until the end of the block."""
    place = settings.access_folder
    assert place is not None, "settings_with_folder has seen to that"
    folder = KeyFolder(place)
    try:
        yield folder
    finally:
        folder.close()


def last_uses(settings: Settings) -> dict[str, float]:
    """When each key and link was last used, by the id of its principal."""
    usage = Usage(settings.access_folder)
    try:
        return usage.last()
    finally:
        usage.close()


def reading(read: Callable[[str], Any]) -> Callable[..., Any]:
    """What makes of an option's text what `read` does; what that cannot is the option's fault."""

    def callback(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def no_such(kind: str, id: str) -> click.UsageError:  # noqa: A002  # it is one
    """That there is no key or link of an id."""
    command = {"key": "keys", "link": "share"}[kind]
    return click.UsageError(
        f"there is no {kind} {id!r} that is good; `webfoot {command} list` shows them"
    )


def write_until(instant: float) -> str:
    """Until when something is good."""
    return "for ever" if math.isinf(instant) else f"until {write_minute(instant)}"


def write_minute(instant: float | None) -> str:
    """An instant, in this machine's time; nothing if there is none."""
    return "" if not instant else time.strftime("%Y-%m-%d %H:%M", time.localtime(instant))


def write_state(expires: float, revoked: float | None) -> str:
    """What has become of a key or a link."""
    if revoked is not None:
        return f"revoked {write_minute(revoked)}"
    if expires <= time.time():
        return f"expired {write_minute(expires)}"
    return f"good {write_until(expires)}"
