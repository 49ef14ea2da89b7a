"""The style sheet, scripts and icon of the pages, as this version of the package has them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@cache
def files() -> Mapping[str, bytes]:
    """The content of each file of `webfoot/static`, by its name."""
    found = sorted(resources.files("webfoot").joinpath("static").iterdir(), key=lambda f: f.name)
    return {
        file.name: file.read_bytes()
        for file in found
        if file.name.rpartition(".")[2] in MEDIA_TYPES
    }


@cache
def version() -> str:
    """A hash of all of them together: part of their URLs, whose content thus never changes.

    One for all, because scripts import each other by their names alone.
    """
    digest = hashlib.sha256()
    for name, content in files().items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
