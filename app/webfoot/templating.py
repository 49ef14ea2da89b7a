"""HTML from templates, every value escaped."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from webfoot import assets, quantities

if TYPE_CHECKING:
    import jinja2


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415  # 30 ms that only pages need

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


def render_page(template: str, base_url: str, **values: object) -> str:
    """Fill in a template that extends `layout.html`.

    Args:
        template: Its name.
        base_url: The server's address as its readers write it, without a slash at its end.
        values: What else it asks for.
    """
    # Links leave out scheme and host: a proxy may have changed both without telling.
    root = urlsplit(base_url).path
    static = f"{root}/static/{assets.version()}"
    return render(template, base_url=base_url, root=root, static=static, **values)
