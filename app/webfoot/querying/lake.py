"""The operator's datasets as views, and what a sandbox must be allowed for them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import duckdb

from webfoot.database.bootstrap import Resources
from webfoot.database.extensions import Extensions, ExtensionUnavailable
from webfoot.database.secrets import secrets_of
from webfoot.database.steps import s3
from webfoot.errors import DatasetUnavailable
from webfoot.literals import sql_quoted, sql_text
from webfoot.querying.naming import LAKE_SCHEMA
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from webfoot.datasets import Dataset

_READERS = {"parquet": "read_parquet", "csv": "read_csv", "json": "read_json"}
_URL = re.compile(r"\b(?:https?|s3)://[^\s'\"]+")


def connect_to(connection: duckdb.DuckDBPyConnection, datasets: Collection[Dataset]) -> None:
    """Load what reading these takes, and find the credentials; before anything is locked.

    Raises:
        DatasetUnavailable: If there is no such extension, or the credentials cannot be used.
    """
    remote = [dataset for dataset in datasets if dataset.is_remote]
    if not remote:
        return
    settings = Settings.from_environment()
    extensions = Extensions(settings.extensions, settings.extension_downloads)
    try:
        extensions.load(connection, "httpfs")
        if any(dataset.location.startswith("s3://") for dataset in remote):
            s3.prepare(connection, Resources(secrets_of(settings.secrets), extensions, os.environ))
    except (duckdb.Error, ExtensionUnavailable) as error:
        raise _unavailable(remote[0], error) from error


def folders_of(datasets: Iterable[Dataset]) -> list[str]:
    """The folders that the sandbox must be allowed to read from."""
    return sorted({dataset.root for dataset in datasets if not dataset.is_file})


def files_of(datasets: Iterable[Dataset]) -> list[str]:
    """The files that it must be allowed to read, likewise."""
    return sorted({dataset.location for dataset in datasets if dataset.is_file})


def make_view(connection: duckdb.DuckDBPyConnection, name: str, dataset: Dataset) -> None:
    """Make a dataset a view.

    Args:
        connection: Where.
        name: What the view is called.
        dataset: The dataset.

    Raises:
        DatasetUnavailable: If it cannot be read.
        duckdb.InterruptException: If the connection is interrupted meanwhile.
    """
    reader = _READERS[dataset.format or "parquet"]
    files = dataset.location if dataset.format else f"{dataset.root}**/*.parquet"
    view = f"{LAKE_SCHEMA}.main.{sql_quoted(name)}"
    try:
        connection.execute(f"CREATE VIEW {view} AS FROM {reader}({sql_text(files)})")
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise _unavailable(dataset, error) from error


def make_listing(connection: duckdb.DuckDBPyConnection, datasets: Iterable[Dataset]) -> None:
    """Make the table of the datasets that there are."""
    table = f"{LAKE_SCHEMA}.main.datasets"
    connection.execute(f"CREATE TABLE {table}(name VARCHAR, format VARCHAR)")
    for dataset in datasets:
        row = f"{sql_text(dataset.name)}, {sql_text(dataset.format or 'parquet')}"
        connection.execute(f"INSERT INTO {table} VALUES ({row})")  # noqa: S608  # nosec B608  # quoted


def without_places(message: str, datasets: Iterable[Dataset]) -> str:
    """What DuckDB says, without where the datasets are: that is the operator's business."""
    for dataset in datasets:
        if not dataset.is_remote:
            place = re.escape(dataset.root) + r"[^\s'\"]*"
            message = re.sub(place, dataset.name, message)  # A name has no backslash.
    return _URL.sub("…", message)


def _unavailable(dataset: Dataset, error: Exception) -> DatasetUnavailable:
    """What strangers are told; the rest is for whoever runs the server, in debug mode."""
    return DatasetUnavailable(
        f"the dataset {dataset.name} cannot be read now", traceback=str(error)
    )
