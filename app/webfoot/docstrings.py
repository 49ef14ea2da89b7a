"""What a UDF's docstring says: title, description, and a sentence per parameter."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docstring_parser.google import DEFAULT_SECTIONS, GoogleParser, Section, SectionType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# Sections that the parser does not know would be swallowed by the one before.
_MORE_SECTIONS = [
    Section(title, title.lower(), SectionType.SINGULAR)
    for title in ("Source", "Sources", "Note", "Notes", "Limits", "License", "Licence")
]


@dataclass(frozen=True)
class Documentation:
    """A docstring in its parts, Markdown kept."""

    title: str
    description: str
    parameters: Mapping[str, str]
    returns: str


def document(function: Callable[..., object]) -> Documentation:
    """Read the Google-style docstring of `function`; all parts are empty when it has none."""
    text = inspect.getdoc(function) or ""
    parsed = GoogleParser([*DEFAULT_SECTIONS, *_MORE_SECTIONS]).parse(text)
    returns = parsed.returns.description if parsed.returns else None
    kept = {section.key for section in _MORE_SECTIONS}
    sections = [
        f"{item.args[0].capitalize()}: {item.description}"
        for item in parsed.meta
        if item.args and item.args[0] in kept
    ]
    paragraphs = [parsed.long_description or "", *sections]
    return Documentation(
        title=(parsed.short_description or "").strip(),
        description="\n\n".join(part for part in paragraphs if part).strip(),
        parameters={item.arg_name: (item.description or "").strip() for item in parsed.params},
        returns=(returns or "").strip(),
    )
