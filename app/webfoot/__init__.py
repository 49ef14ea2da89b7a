"""Webfoot turns a Python function into a table that anything can query by URL."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webfoot.access.principal import Principal as Principal
    from webfoot.calling import map as map  # noqa: A004  # always written `webfoot.map`
    from webfoot.calling import run as run
    from webfoot.client import Client as Client
    from webfoot.database.files import Database as Database
    from webfoot.database.sessions import cursor as cursor
    from webfoot.database.sessions import session as session
    from webfoot.definition import udf as udf
    from webfoot.errors import DefinitionError as DefinitionError
    from webfoot.errors import Error as Error
    from webfoot.errors import InvalidParameters as InvalidParameters
    from webfoot.outcomes import Results as Results
    from webfoot.tables.table import Table as Table
    from webfoot.tiling import split as split
    from webfoot.tiling import stitch as stitch

__version__ = "0.1.0"
__all__ = [
    "Client",
    "Database",
    "DefinitionError",
    "Error",
    "InvalidParameters",
    "Principal",
    "Results",
    "Table",
    "__version__",
    "cursor",
    "map",
    "run",
    "session",
    "split",
    "stitch",
    "udf",
]

# No module may be called like a name it holds: once `webfoot.udf` were loaded as a module,
# `from webfoot import udf` would give the module.
_HOMES = {
    "Client": "webfoot.client",
    "Database": "webfoot.database.files",
    "DefinitionError": "webfoot.errors",
    "Error": "webfoot.errors",
    "InvalidParameters": "webfoot.errors",
    "Principal": "webfoot.access.principal",
    "Results": "webfoot.outcomes",
    "Table": "webfoot.tables.table",
    "cursor": "webfoot.database.sessions",
    "map": "webfoot.calling",
    "run": "webfoot.calling",
    "session": "webfoot.database.sessions",
    "split": "webfoot.tiling",
    "stitch": "webfoot.tiling",
    "udf": "webfoot.definition",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that `import webfoot` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'webfoot' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
