"""A key is good for its bearer, for as long as it is meant to be, and nothing kept of it opens."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import pytest

from webfoot.access.keys import KEY, Key, check_tenant, hash_of, id_of, new_id, new_key, rotated
from webfoot.access.throttling import Limits, read_rate
from webfoot.errors import Unauthorized

NOW = time.time()


def made(**given: object) -> tuple[Key, str]:
    return new_key(Key(**{"id": new_id(), "hash": "", "roles": ("viewer",), **given}))  # type: ignore[arg-type]  # any field


def refused(key: Key, text: str, now: float = NOW) -> str:
    with pytest.raises(Unauthorized) as raised:
        key.check(text, now)
    return raised.value.detail


def test_a_key_is_recognisable_and_random() -> None:
    texts = {made()[1] for _ in range(100)}
    assert len(texts) == 100
    for text in texts:
        assert KEY.fullmatch(text)
        assert len(text) == 59
        assert id_of(text) == text[3:15]


def test_a_key_is_good_for_ever_or_until_it_expires() -> None:
    key, text = made()
    assert key.check(text, NOW) == math.inf
    until = NOW + 10
    assert replace(key, expires=until).check(text, NOW) == until
    assert "expired" in refused(replace(key, expires=until), text, until)


def test_what_is_kept_does_not_hold_the_secret() -> None:
    key, text = made()
    secret = text.removeprefix(f"wf_{key.id}_")
    assert len(secret) > 30
    assert secret not in json.dumps(key.plain()) + repr(key)
    assert "not known" in refused(key, key.hash)


def test_another_secret_is_refused_and_not_told_why() -> None:
    key, text = made()
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    unknown = refused(key, wrong)
    # Not even that it was revoked: who does not have it is not to know.
    assert refused(replace(key, revoked=NOW), wrong) == unknown
    assert refused(replace(key, expires=0), wrong) == unknown
    assert "revoked" in refused(replace(key, revoked=NOW), text)


def test_a_rotated_key_leaves_the_old_one_its_time() -> None:
    key, old = made(name="kept", expires=NOW + 10**6)
    before = time.time()
    after, new = rotated(key, 60)
    now = time.time()
    assert after.id == key.id
    assert after.name == "kept"
    assert after.check(new, NOW) == NOW + 10**6
    assert before + 60 <= after.check(old, now) <= now + 60
    assert "not known" in refused(after, old, now + 100)
    at_once, newer = rotated(after, 0)
    for text in (old, new):
        assert "not known" in refused(at_once, text)
    assert at_once.check(newer, NOW)


def test_without_an_old_secret_no_text_is_the_old_one() -> None:
    key, _ = made()
    assert key.before == ""
    assert "not known" in refused(replace(key, before_until=NOW + 100), "")


@pytest.mark.parametrize(
    "text", ["", "wf_", "x", "wf_0123456789ab_short", "WF_0123456789ab_" + "a" * 43, "é" * 59]
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    with pytest.raises(Unauthorized):
        id_of(text)


def test_a_key_survives_being_written_down() -> None:
    plain, _ = made()
    full, _ = made(
        name="Ann",
        tenant="acme",
        roles=("analyst", "viewer"),
        udfs=("sales_*",),
        formats=("csv",),
        limits=Limits(read_rate("10/s"), 2, 1000),
        created=NOW,
        expires=NOW + 1,
        revoked=NOW,
    )
    none, _ = made(roles=())
    for key in (plain, full, none, rotated(full, 10)[0]):
        assert Key.from_plain(json.loads(json.dumps(key.plain()))) == key


@pytest.mark.parametrize(
    "plain", [{}, {"id": "x"}, {"id": "x", "hash": "y", "role": "z"}, {"id": 1}]
)
def test_what_is_no_key_is_not_read(plain: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a key is"):
        Key.from_plain(plain)


@pytest.mark.parametrize("name", ["", "acme", "a.b-c_d", "A1", "x" * 63])
def test_a_tenant_has_a_plain_name(name: str) -> None:
    assert check_tenant(name) == name


@pytest.mark.parametrize("name", ["-x", ".", "a b", "a/b", "x" * 64, "é", "a\n"])
def test_a_tenant_has_no_other_name(name: str) -> None:
    with pytest.raises(ValueError, match="a tenant is"):
        check_tenant(name)


def test_a_hash_is_sha_256() -> None:
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
