"""HTML from templates, every value escaped."""

from __future__ import annotations

from functools import cache

import jinja2

from webfoot import quantities


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("webfoot"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["size"] = quantities.write_size
    environment.filters["duration"] = quantities.write_seconds
    return environment


def render(template: str, **values: object) -> str:
    """Fill in a template of `webfoot/templates`."""
    return _environment().get_template(template).render(values)
