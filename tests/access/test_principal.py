"""A principal is the same wherever it is told, and sees what is its own, or its tenant's."""

from __future__ import annotations

import json

import pytest

from webfoot.access.principal import ANONYMOUS, EVERYBODY, Principal, principal_of

ANN = Principal("key:ann", "acme", ("analyst", "élève"))


def test_a_principal_survives_being_written_down() -> None:
    assert Principal.from_plain(json.loads(ANN.text())) == ANN
    assert Principal.from_plain(json.loads(json.dumps(ANN.plain()))) == ANN


def test_no_two_principals_are_written_alike() -> None:
    others = [
        *(Principal("key:ann", "acme"), Principal("key:ann", roles=ANN.roles)),
        *(Principal("key:ann", "acme", ("analyst,élève",)), Principal("", "acme")),
    ]
    assert len({one.text() for one in [ANN, *others]}) == 5


@pytest.mark.parametrize(
    ("kept_for", "asker", "sees"),
    [
        (ANN, ANN, True),
        # Whose roles have changed is who he was.
        (ANN, Principal("key:ann", "acme"), True),
        (ANN, Principal("key:bob", "acme", ANN.roles), False),
        (ANN, Principal("key:ann", "zeta", ANN.roles), False),
        (ANN.among_all(), Principal("key:bob", "acme"), True),
        (ANN.among_all(), Principal("key:bob", "zeta"), False),
        (ANN.among_all(), ANONYMOUS, False),
        (EVERYBODY, ANONYMOUS, True),
        (EVERYBODY, ANN, False),
    ],
)
def test_who_sees_what_is_kept(kept_for: Principal, asker: Principal, sees: bool) -> None:
    assert kept_for.includes(asker) is sees


def test_without_tenants_everybody_shares() -> None:
    assert ANONYMOUS.among_all() == EVERYBODY == Principal("key:bob").among_all()


def test_a_request_that_nobody_has_decided_on_has_no_principal() -> None:
    with pytest.raises(KeyError):
        principal_of({"type": "http"})
    assert principal_of({"webfoot.principal": ANN}) is ANN
