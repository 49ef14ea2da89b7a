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


@dataclass(frozen=True)
class Visit:
    """A request that was let in.

    Args:
        asker: Who makes it, and what they may do.
        registry: The UDFs, and the problems with files, that there are for them.
    """

    asker: Asker
    registry: Registry

    @property
    def principal(self) -> Principal:
        """Who makes it."""
        return self.asker.principal


def visit_of(scope: Mapping[str, Any]) -> Visit:
    """What was decided of a request.

    Raises:
        KeyError: If nothing was; it may then not be answered.
    """
    visit: Visit = scope[VISIT]
    return visit
