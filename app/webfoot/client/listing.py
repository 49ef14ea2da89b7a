"""The UDFs of a server, as a person in a notebook wants to see them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from webfoot.errors import UdfNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class ListedParameter:
    """A parameter of a UDF.

    Args:
        name: Its name.
        type: Its type, as in the signature.
        required: Whether a call must give it.
        default: Its default, as JSON has it.
        help: What it means.
    """

    name: str
    type: str
    required: bool
    default: Any
    help: str

    def __str__(self) -> str:
        written = f"{self.name}: {self.type}"
        return written if self.required else f"{written} = {self.default!r}"


@dataclass(frozen=True)
class ListedUdf:
    """A UDF of a server.

    Args:
        name: What it is called by.
        title: What it is, in a line.
        description: What more there is to say.
        returns: What its table is.
        parameters: What it takes.
        version: The version of its code.
        tags: What its author filed it under.
    """

    name: str
    title: str
    description: str
    returns: str
    parameters: tuple[ListedParameter, ...]
    version: str
    tags: tuple[str, ...]

    @property
    def signature(self) -> str:
        """What a call looks like."""
        return f"{self.name}({', '.join(str(parameter) for parameter in self.parameters)})"

    def __repr__(self) -> str:
        helps = [f"  {item.name}: {item.help}" for item in self.parameters if item.help]
        parts = [self.title, self.description, "\n".join(helps), self.returns]
        return "\n\n".join([self.signature, *(part for part in parts if part)])

    def _repr_html_(self) -> str:
        return _render("listed.html", udf=self)


class Listing(Sequence[ListedUdf]):
    """UDFs in the order of their names; one is found by its place or by its name.

    Args:
        udfs: The UDFs.
    """

    def __init__(self, udfs: Sequence[ListedUdf]) -> None:
        self._udfs = tuple(udfs)

    @overload
    def __getitem__(self, key: int | str) -> ListedUdf: ...
    @overload
    def __getitem__(self, key: slice) -> Listing: ...
    def __getitem__(self, key: int | str | slice) -> ListedUdf | Listing:
        """The UDF of a name or at a place, or those of a slice.

        Raises:
            UdfNotFound: If there is none of that name; it names the nearest.
        """
        if isinstance(key, slice):
            return Listing(self._udfs[key])
        if isinstance(key, int):
            return self._udfs[key]
        by_name = {udf.name: udf for udf in self._udfs}
        if key not in by_name:
            near = difflib.get_close_matches(key, by_name, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(by_name)}"
            raise UdfNotFound(f"there is no UDF {key!r}; {hint}")
        return by_name[key]

    def __len__(self) -> int:
        return len(self._udfs)

    def __repr__(self) -> str:
        wide = max((len(udf.signature) for udf in self._udfs), default=0)
        lines = [f"{udf.signature:{wide}}  {udf.title}".rstrip() for udf in self._udfs]
        return "\n".join(lines) or "no UDFs"

    def _repr_html_(self) -> str:
        return _render("listing.html", udfs=self._udfs)


def read_udf(plain: Mapping[str, Any]) -> ListedUdf:
    """Read what a server says of a UDF."""
    parameters = tuple(
        ListedParameter(
            name=item["name"],
            type=item["type"],
            required=item["required"],
            default=item["default"],
            help=item["help"],
        )
        for item in plain["parameters"]
    )
    return ListedUdf(
        name=plain["name"],
        title=plain["title"],
        description=plain["description"],
        returns=plain["returns"],
        parameters=parameters,
        version=plain["version"],
        tags=tuple(plain["tags"]),
    )


def _render(template: str, **values: object) -> str:
    from webfoot.templating import render  # noqa: PLC0415  # Jinja, for who looks at it

    return render(template, **values)
