"""What a role does not say, nobody may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from webfoot.access.roles import BUILT_IN, RIGHTS, Policy, Rights, Role, read_policy
from webfoot.access.throttling import Limits, Rate
from webfoot.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

POLICY = Policy()


def test_nobody_may_anything() -> None:
    for rights in (Rights(), POLICY.rights(["no-such-role"]), POLICY.rights([])):
        assert not rights.sees("delays")
        assert not rights.reads("delays", "csv")
        assert not any(rights.has(right) for right in RIGHTS)
        assert not rights.unbounded


@pytest.mark.parametrize(
    ("role", "has"),
    [("admin", set(RIGHTS)), ("analyst", {"sql", "jobs", "share"}), ("viewer", set())],
)
def test_what_the_roles_may_that_there_always_are(role: str, has: set[str]) -> None:
    rights = POLICY.rights([role])
    assert {right for right in RIGHTS if rights.has(right)} == has
    assert rights.sees("anything")
    assert rights.reads("anything", "html")
    assert rights.unbounded


def test_what_a_key_is_given_narrows_every_role() -> None:
    rights = POLICY.rights(["admin", "viewer"], udfs=("sales_*", "costs"), formats=("csv",))
    assert [name for name in ("sales_eu", "costs", "cost", "xsales_eu") if rights.sees(name)] == [
        "sales_eu",
        "costs",
    ]
    assert rights.reads("costs", "csv")
    assert not rights.reads("costs", "parquet")
    assert not rights.unbounded


def test_two_roles_do_not_lend_each_other_formats() -> None:
    sheets, maps = Role(("sales",), ("csv",)), Role(("maps",), ("geojson", "html"))
    rights = Rights((sheets, maps))
    assert rights.reads("sales", "csv")
    assert rights.reads("maps", "html")
    assert not rights.reads("sales", "html")
    assert not rights.reads("maps", "csv")
    assert not rights.sees("others")


def test_patterns_know_case_and_stand_for_the_whole_name() -> None:
    rights = Rights((Role(("Sales?", "[ab]c")),))
    assert [
        n for n in ("Sales1", "sales1", "Sales", "Sales12", "ac", "[ab]c") if rights.sees(n)
    ] == [
        "Sales1",
        "ac",
    ]


def test_the_wider_limit_of_two_roles_counts() -> None:
    narrow = Role(limits=Limits(Rate(1, 1.0), 1, None))
    wide = Role(limits=Limits(Rate(100, 60.0), 5, 7))
    assert Rights((narrow, wide)).limits == Limits(Rate(100, 60.0), 5, None)
    assert Rights((narrow,)).limits == narrow.limits
    assert Rights((narrow, Role())).limits == Rights().limits == Limits()


FILE = """
[roles.finance]
udfs = ["sales_*", "costs"]
formats = ["parquet", "csv"]
may = ["sql"]
rate = "20/s"
concurrency = 4
daily = 10_000

[roles.viewer]
udfs = ["public_*"]

[udfs."slow_*"]
rate = "5/10s"

[udfs."*"]
concurrency = 50
"""


def test_a_file_has_the_operators_roles_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "roles.toml"
    path.write_text(FILE)
    policy = read_policy(path)
    assert policy.roles["finance"] == Role(
        ("sales_*", "costs"), ("parquet", "csv"), ("sql",), Limits(Rate(20, 1.0), 4, 10_000)
    )
    assert policy.roles["viewer"] == Role(("public_*",))
    assert policy.roles["admin"] == BUILT_IN["admin"]
    assert policy.limits_of("slow_one") == Limits(Rate(5, 10.0))
    assert policy.limits_of("quick") == Limits(concurrency=50)
    assert read_policy(None).limits_of("quick") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[roles.x]\nudf = ['a']", "roles.x has 'udf'; known: concurrency, daily, formats, may"),
        ("[roles.x]\nmay = ['everything']", "may is some of sql, jobs, share, metrics, admin"),
        ("[roles.x]\nmay = 'sql'", "may is a list of texts, got 'sql'"),
        ("[roles.x]\nudfs = [1]", "udfs is a list of texts"),
        ("[roles.x]\nudfs = ['a b']", "roles.x: a pattern of UDFs is a name such as"),
        ("[roles.x]\nrate = '10'", "roles.x: a rate is written like '10/s'"),
        ("[roles.x]\ndaily = 0", "daily is a whole number, 1 or more, got 0"),
        ("[roles.x]\nconcurrency = true", "concurrency is a whole number"),
        ("[udfs.x]\nudfs = ['a']", "udfs.x has 'udfs'; known: concurrency, daily, rate"),
        ("[role.x]\nudfs = []", "the file has 'role'; known: roles, udfs"),
        ("roles = 3", "roles is a table, got 3"),
        ("[roles]\nx = 3", "roles.x is a table, got 3"),
        ("roles = [", "Invalid value"),
    ],
)
def test_a_file_that_makes_no_sense_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "roles.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        read_policy(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml"):
        read_policy(tmp_path / "no.toml")
