"""The lake: files elsewhere that SQL reads by a name, as the operator has declared them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# What a dataset may not be called: these are tables already.
TAKEN = frozenset({"datasets", "parameters", "udfs"})
# Formats by the endings of their files, which may be followed by .gz or .zst.
FORMATS = {
    "parquet": "parquet",
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_NEXT = re.compile(r",(?=\s*\w+\s*=)")
_ENDING = re.compile(r"\.(\w+?)(?:\.gz|\.zst)?$")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Dataset:
    """A table of the lake.

    Args:
        name: What SQL calls it.
        location: A file, files by a pattern, or a folder of Parquet: an absolute path, `s3://…`, or
            the `https://…` of a file.
    """

    name: str
    location: str

    @property
    def is_remote(self) -> bool:
        """Whether it is not on this machine."""
        return "://" in self.location

    @property
    def format(self) -> str | None:
        """The format of its files by their ending; None for a folder."""
        path = self.location if self.location.startswith("s3://") else _path_of(self.location)
        ending = _ENDING.search(path)
        return FORMATS.get(ending[1].lower()) if ending else None

    @property
    def is_file(self) -> bool:
        """Whether it is a single file."""
        if self.location.startswith("http"):
            return True
        return self.format is not None and not _GLOB.search(self.location)

    @property
    def root(self) -> str:
        """The folder that all its files are in, with a slash at its end."""
        if self.format is None:
            return self.location.rstrip("/") + "/"
        return _GLOB.split(self.location)[0].rpartition("/")[0] + "/"


def read_datasets(text: str) -> tuple[Dataset, ...]:
    """Read what the operator has declared: `name=location, name=location`.

    Raises:
        ValueError: If it is written otherwise, or a location can be none.
    """
    found: dict[str, Dataset] = {}
    for part in _NEXT.split(text):
        name, equals, location = (piece.strip() for piece in part.partition("="))
        if not equals or not _NAME.fullmatch(name) or not location:
            raise ValueError(
                f"write it like 'taxi=s3://bucket/taxi/, rates=/data/rates.csv', got {part!r}"
            )
        if name.lower() in TAKEN or name.lower() in found:
            raise ValueError(f"{name!r} is the name of a table already; choose another")
        found[name.lower()] = Dataset(name, _check(location))
    return tuple(found.values())


def _check(location: str) -> str:
    parts = urlsplit(location)
    if parts.scheme in ("http", "https"):
        if not parts.hostname or parts.username or Dataset("", location).format is None:
            raise ValueError(
                f"a URL is that of one file, such as 'https://host/a.parquet', got {location!r};"
                " there is no listing the files behind it"
            )
        return location
    if parts.scheme == "s3":
        if not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"write a place in S3 like 's3://bucket/folder/', got {location!r}")
        return location
    if "://" in location:
        raise ValueError(f"a place is a path, s3:// or https://, got {location!r}")
    absolute = str(Path(location).absolute())
    return f"{absolute}/" if location.endswith("/") else absolute


def _path_of(location: str) -> str:
    return urlsplit(location).path if "://" in location else location
