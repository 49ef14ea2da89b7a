"""Webfoot turns a Python function into a table that anything can query by URL."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webfoot.definition import udf as udf
    from webfoot.errors import DefinitionError as DefinitionError
    from webfoot.errors import Error as Error
    from webfoot.errors import InvalidParameters as InvalidParameters

__version__ = "0.1.0"
__all__ = ["DefinitionError", "Error", "InvalidParameters", "__version__", "udf"]

# No module may be called like a name it holds: once `webfoot.udf` were loaded as a module,
# `from webfoot import udf` would give the module.
_HOMES = {
    "DefinitionError": "webfoot.errors",
    "Error": "webfoot.errors",
    "InvalidParameters": "webfoot.errors",
    "udf": "webfoot.definition",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that `import webfoot` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'webfoot' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
