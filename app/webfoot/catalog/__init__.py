"""The UDFs of a registry as a DuckDB database: a table macro for each, and tables about them.

    types    a parameter's JSON schema → its DuckDB type, its default, its text in a URL
    macros   a UDF → its table macros: plain, fanned out, partitioned
    script   a registry → the SQL of the whole database, or of what a statement names of it

A macro runs in the reader's DuckDB: it writes its arguments into a URL and reads the Parquet there.
"""

from enum import Enum

# What the catalog is attached as, in documents, and by the script that is run by hand.
MACROS_SCHEMA = "udfs"


class Kind(Enum):
    """For which DuckDB a catalog is written."""

    TYPED = "typed"
    """1.4 and later: parameters have types, and a wrong one fails before any request."""
    UNTYPED = "untyped"
    """Older ones, which cannot read a macro that has types."""
