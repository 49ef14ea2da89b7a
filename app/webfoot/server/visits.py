"""What the gate has decided of a request: who makes it, and what there is for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from webfoot.access.guards import Asker
    from webfoot.access.principal import Principal
    from webfoot.registry import Registry

VISIT = "webfoot.visit"


@dataclass(frozen=True, eq=False)
class Visit:
    """The requests of one asker that are let in; the same record while nothing changes for them.

    Args:
        asker: Who makes them, and what they may do.
        registry: The UDFs, and the problems with files, that there are for them.
        limited: Whether their requests are counted, as there is a limit to them.
        private: Whether no cache may hand what they are answered to others.
    """

    asker: Asker
    registry: Registry
    limited: bool
    private: bool

    @property
    def principal(self) -> Principal:
        """Who makes them."""
        return self.asker.principal


def visit_of(scope: Mapping[str, Any]) -> Visit:
    """What was decided of a request.

    Raises:
        KeyError: If nothing was; it may then not be answered.
    """
    visit: Visit = scope[VISIT]
    return visit
