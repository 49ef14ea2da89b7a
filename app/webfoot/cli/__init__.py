"""The command line: `webfoot serve`, `run`, `query`, `list`, `check`, `new`, `keys` and others.

    options     what several commands take, and how it becomes settings
    display     tables and sentences in a terminal
    output      files, and the standard output
    access      where keys and links are
    serving  running  querying  folders  estimating  keys  shares  extensions      the commands

Exit codes: 0 done; 1 the UDF, or a file, is at fault; 2 the command is.
"""

from __future__ import annotations

import sys

import click

import webfoot
from webfoot.cli.estimating import estimate_cost
from webfoot.cli.extensions import extensions
from webfoot.cli.folders import check, list_udfs, new
from webfoot.cli.keys import keys
from webfoot.cli.querying import query
from webfoot.cli.running import run
from webfoot.cli.serving import serve
from webfoot.cli.shares import share
from webfoot.errors import Error, InvalidParameters, QueryFailed, SettingsError, UdfNotFound


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(webfoot.__version__)
def commands() -> None:
    """Webfoot turns a Python function into a table that anything can query by URL."""


_COMMANDS = (
    *(serve, run, query, list_udfs, check, new),
    *(keys, share, estimate_cost, extensions),
)
for _command in _COMMANDS:
    commands.add_command(_command)


def main() -> None:
    """Run the command line; an error is one sentence, not a traceback."""
    try:
        commands(prog_name="webfoot")
    except Error as error:
        # A query that fails without a UDF's failing is wrong itself.
        is_query = isinstance(error, QueryFailed) and not error.run
        if is_query or isinstance(error, UdfNotFound | InvalidParameters):
            _fail(error.detail, 2)
        if error.traceback:
            click.echo(error.traceback, err=True)
        _fail(error.detail, 1)
    except (SettingsError, OSError) as error:
        _fail(str(error), 2)


def _fail(message: str, code: int) -> None:
    click.secho(message, fg="red", err=True)
    sys.exit(code)
