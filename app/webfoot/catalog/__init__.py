"""The UDFs of a registry as a DuckDB database: a table macro for each, and tables about them.

    types    a parameter's JSON schema → its DuckDB type, its default, its text in a URL
    macros   a UDF → its table macros: plain, fanned out, partitioned
    script   a registry → the SQL of the whole database, or of what a statement names of it

A macro runs in the reader's DuckDB: it writes its arguments into a URL and reads the Parquet there.
"""

from webfoot.catalog.script import (
    MACROS_SCHEMA,
    Kind,
    catalog_script,
    macro_names,
    partial_script,
    standalone_script,
)

__all__ = [
    "MACROS_SCHEMA",
    "Kind",
    "catalog_script",
    "macro_names",
    "partial_script",
    "standalone_script",
]
