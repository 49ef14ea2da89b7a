"""What a UDF's docstring says: title, description, and a sentence per parameter."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from docstring_parser import ParseError
from docstring_parser.google import DEFAULT_SECTIONS, GoogleParser, Section, SectionType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# Sections that the parser does not know would be swallowed by the one before.
_MORE_SECTIONS = [
    Section(title, title.lower(), SectionType.SINGULAR)
    for title in (
        *("Source", "Sources", "Note", "Notes", "Limits", "License", "Licence"),
        *("Example", "Examples", "Reference", "References", "See Also", "Warning", "Warnings"),
    )
]
# Free text is no error there, as it would be by default.
_RAISES = Section("Raises", "raises", SectionType.SINGULAR)


@dataclass(frozen=True)
class Documentation:
    """A docstring in its parts, Markdown kept."""

    title: str
    description: str
    parameters: Mapping[str, str]
    returns: str


def document(function: Callable[..., object]) -> Documentation:
    """Read the Google-style docstring of `function`; all parts are empty when it has none.

    A docstring that is written otherwise is all description.
    """
    text = inspect.getdoc(function) or ""
    try:
        parsed = GoogleParser([*DEFAULT_SECTIONS, *_MORE_SECTIONS, _RAISES]).parse(text)
    except ParseError:
        title, _, rest = text.partition("\n")
        return Documentation(title.strip(), rest.strip(), {}, "")
    title, rest = parsed.short_description or "", parsed.long_description or ""
    if rest and not parsed.blank_after_short_description:
        wrapped, _, rest = rest.partition("\n\n")
        title = f"{title} {' '.join(wrapped.split())}"
    returns = parsed.returns.description if parsed.returns else None
    kept = {section.key for section in _MORE_SECTIONS}
    sections = [
        f"{item.args[0].capitalize()}: {item.description}"
        for item in parsed.meta
        if item.args and item.args[0] in kept
    ]
    paragraphs = [rest, *sections]
    return Documentation(
        title=title.strip(),
        description="\n\n".join(part for part in paragraphs if part).strip(),
        parameters={item.arg_name: (item.description or "").strip() for item in parsed.params},
        returns=(returns or "").strip(),
    )
