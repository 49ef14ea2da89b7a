"""DuckDB inside this process.

    sessions    cursor() and session(): connections for UDFs and scripts
    files       Database(name): a file that ends with its `with`
    steps       httpfs, s3, postgres, motherduck → bootstrap: what runs when it is first used
    connection  what an author holds: DuckDB's connection, which notices what statements use
    instances   one DuckDB, its folder and its steps; one per name and configuration
    calls       the instance that the calls of a worker share
    statements  what a text of SQL names, and the files that it may attach
    secrets     environment, files, SSM
    extensions  found in a folder or in packages, never downloaded unless allowed
    folders  limits      where DuckDB may write; how much it may use
    queries     SQL over tables in memory and files of lines; database files

A session's connections are for authors; calls, pages and commands use `calls` and `queries`.
"""

import duckdb

from webfoot.database.extensions import load_httpfs as load_httpfs
from webfoot.database.queries import opened as opened
from webfoot.database.queries import query_tables as query_tables
from webfoot.database.queries import read_lines as read_lines
from webfoot.database.queries import write_database as write_database

DUCKDB_VERSION: str = duckdb.__version__
