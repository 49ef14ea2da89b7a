"""Who is asking: the one record of it that all of Webfoot, and UDFs, are told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where the scope of a request has it.
PRINCIPAL = "webfoot.principal"


@dataclass(frozen=True)
class Principal:
    """Who is asking.

    A UDF is told by a parameter annotated with this class, and then its results are kept for each
    principal apart.

    Args:
        id: What names it among all: `key:…`, `user:…` of a token, `share:…` of a link, or
            `anonymous`.
        tenant: Whose data it is about; empty for the operator's own.
        roles: What it is, in the operator's words.
    """

    id: str
    tenant: str = ""
    roles: tuple[str, ...] = ()

    def among_all(self) -> Self:
        """The audience that it shares results with: whoever there is in its tenant."""
        return type(self)("", self.tenant)

    def includes(self, asker: Principal) -> bool:
        """Whether what is kept for this one, or for its whole tenant, is also `asker`'s."""
        return self.tenant == asker.tenant and self.id in ("", asker.id)

    def plain(self) -> dict[str, Any]:
        """The principal as JSON has it."""
        return {**asdict(self), "roles": list(self.roles)}

    def text(self) -> str:
        """The principal in a canonical form."""
        return json.dumps(self.plain(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The principal that `plain` was made of."""
        return cls(plain["id"], plain["tenant"], tuple(plain["roles"]))


# Whoever asks a server that asks nobody who they are; and whoever runs a folder in a process.
ANONYMOUS = Principal("anonymous", roles=("admin",))
# All principals that are of no tenant: for whom results are kept where nobody is told apart.
EVERYBODY = Principal("")


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Who makes a request.

    Raises:
        KeyError: If nobody has decided that yet; nothing may then be answered.
    """
    principal: Principal = scope[PRINCIPAL]
    return principal
