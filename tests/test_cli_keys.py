"""`webfoot keys` and `webfoot share`, as an operator and a script use them."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.access.granting import bearer
from tests.server_process import INLINE, eventually, serve, write_udfs

from webfoot.access.keys import KEY

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.command_line import CommandLine

UDFS = """
from webfoot import udf

@udf
def delays(month: int, origin: str = "JFK"):
    return [{"month": month, "origin": origin}]

@udf
def sales():
    return [{"n": 1}]
"""


class Commands:
    """The command line in a folder, with a store of its own."""

    def __init__(self, parent: Path, here: CommandLine) -> None:
        self.parent = parent
        self._here = here
        self.folder = write_udfs(parent, tables=UDFS)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("WEBFOOT_")},
            "WEBFOOT_STORE": str(parent / "store"),
            "COLUMNS": "300",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._here(self.parent, *words, environment=self.environment)

    def said(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 2, done.stdout
        return done.stderr


@pytest.fixture
def commands(tmp_path: Path, here: CommandLine) -> Commands:
    return Commands(tmp_path, here)


def until_refused(url: str, **headers: str) -> None:
    """Wait until a server that runs has noticed."""
    eventually(lambda: httpx.get(url, headers=headers).status_code == 401)


def test_a_key_is_made_listed_rotated_and_revoked(commands: Commands) -> None:
    key = commands.said("keys", "create", "--role", "analyst", "--udf", "delays", "--name", "Ann")
    assert KEY.fullmatch(key), "the key alone: a script keeps it"
    with serve(commands.folder, *INLINE, environment=commands.environment) as server:
        url = f"{server.url}/udfs/delays.json?month=1"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers=bearer(key)).status_code == 200
        assert httpx.get(f"{server.url}/udfs/sales.json", headers=bearer(key)).status_code == 404
        (listed,) = json.loads(commands.said("keys", "list", "--json"))
        assert (listed["name"], listed["roles"], listed["udfs"]) == ("Ann", ["analyst"], ["delays"])
        assert listed["last_use"] == pytest.approx(time.time(), abs=20)
        assert key.split("_", 2)[2] not in commands.said("keys", "list")
        new = commands.said("keys", "rotate", listed["id"])
        until_refused(url, **bearer(key))
        assert httpx.get(url, headers=bearer(new)).status_code == 200
        commands.said("keys", "revoke", listed["id"])
        until_refused(url, **bearer(new))
    assert "revoked" in commands.said("keys", "list")
    assert listed["id"] in commands.refused("keys", "rotate", listed["id"])


def test_a_key_has_all_that_it_is_given(commands: Commands) -> None:
    commands.said(
        *("keys", "create", "--role", "viewer", "--role", "analyst", "--tenant", "acme"),
        *("--format", "csv", "--expires", "30d", "--rate", "10/s", "--concurrency", "2"),
        *("--daily", "100"),
    )
    (key,) = json.loads(commands.said("keys", "list", "--json"))
    assert key["roles"] == ["viewer", "analyst"]
    assert (key["tenant"], key["formats"], key["udfs"]) == ("acme", ["csv"], ["*"])
    assert key["limits"] == {"rate": "10/s", "concurrency": 2, "daily": 100}
    assert key["expires"] == pytest.approx(time.time() + 30 * 86_400, abs=60)
    table = commands.said("keys", "list")
    assert re.search(r"acme .* csv .* rate=10/s concurrency=2 daily=100 ", table)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create",), "Missing option '--role'"),
        (("create", "--role", "boss"), "there is no role 'boss'; known: admin, analyst, viewer"),
        (("create", "--role", "viewer", "--tenant", "a/b"), "a tenant is up to 63 letters"),
        (("create", "--role", "viewer", "--rate", "fast"), "'--rate': a rate is written like"),
        (("create", "--role", "viewer", "--expires", "soon"), "'--expires': a duration is"),
        (("create", "--role", "viewer", "--expires", "0"), "'--expires': it would be good for"),
        (("create", "--role", "viewer", "--udf", "a,b"), "'--udf': a pattern of UDFs is a name"),
        (("rotate", "0123456789ab", "--grace", "x"), "'--grace': a duration is written like"),
        (("create", "--role", "viewer", "--roles", "no.toml"), "no.toml"),
        (("revoke", "0123456789ab"), "`webfoot keys list` shows them"),
        (("rotate", "0123456789ab"), "there is no key '0123456789ab'"),
        (("list", "--store", "s3://bucket"), "which has no place for keys"),
    ],
)
def test_what_makes_no_sense_is_refused(
    commands: Commands, words: tuple[str, ...], message: str
) -> None:
    assert message in commands.refused("keys", *words)
    assert not (commands.parent / "store").exists()


def test_roles_of_the_operators_own(commands: Commands) -> None:
    (commands.parent / "roles.toml").write_text('[roles.sales]\nudfs = ["sales"]\n')
    key = commands.said("keys", "create", "--role", "sales", "--roles", "roles.toml")
    environment = {**commands.environment, "WEBFOOT_ROLES": str(commands.parent / "roles.toml")}
    with serve(commands.folder, *INLINE, environment=environment) as server:
        listed = httpx.get(f"{server.url}/udfs", headers=bearer(key)).json()["udfs"]
        assert [udf["name"] for udf in listed] == ["sales"]


def test_what_is_exported_is_a_setting(commands: Commands, tmp_path: Path) -> None:
    key = commands.said("keys", "create", "--role", "viewer")
    gone = commands.said("keys", "create", "--role", "viewer")
    commands.said("keys", "revoke", gone.split("_")[1])
    exported = commands.said("keys", "export")
    environment = {
        **commands.environment,
        "WEBFOOT_STORE": str(tmp_path / "elsewhere"),
        "WEBFOOT_KEYS": exported,
        "WEBFOOT_SHARE_SECRET": "s" * 32,
    }
    with serve(commands.folder, *INLINE, environment=environment) as server:
        url = f"{server.url}/udfs/sales.json"
        found = [httpx.get(url, headers=bearer(k)).status_code for k in (key, gone, "x")]
        assert found == [200, 401, 401]
        # Whoever knows the secret makes links for all servers that do.
        commands.environment = environment | {"WEBFOOT_BASE_URL": server.url}
        link = commands.said("share", "sales")
        assert httpx.get(link).status_code == 200
    assert not (tmp_path / "elsewhere/access").exists()


def test_a_link_is_made_listed_and_revoked(commands: Commands) -> None:
    assert "nobody has a key" in commands.refused("share", "delays", "month=1")
    commands.said("keys", "create", "--role", "viewer")
    with serve(commands.folder, *INLINE, environment=commands.environment) as server:
        base = ("--base-url", server.url)
        link = commands.said(
            *("share", "delays", "month=2", "--free", "origin", "--format", "csv"),
            *("--format", "json", "--expires", "7d", "--rate", "100/m", *base),
        )
        assert link.startswith(f"{server.url}/udfs/delays.csv?_share=")
        assert httpx.get(f"{link}&origin=LGA").text.split() == ["month,origin", "2,LGA"]
        assert httpx.get(f"{link}&month=3").status_code == 403
        (listed,) = json.loads(commands.said("share", "list", "--json"))
        assert (listed["udf"], listed["fixed"], listed["by"]) == (
            "delays",
            {"month": ["2"]},
            "operator",
        )
        table = commands.said("share", "list")
        assert re.search(r"delays .* month=2 .* origin .* operator", table)
        commands.said("share", "revoke", listed["id"])
        until_refused(link)
        assert "revoked" in commands.said("share", "list")
        told = commands.run("share", "sales", "--format", "csv", "--rate", "3/m").stderr
        assert "http://localhost:8000 is a guess" in told
        assert re.search(r"sales .* csv .* 3/m .* operator", commands.said("share", "list"))
        plain = commands.said("share", "create", "sales", *base)
        assert httpx.get(plain).status_code == 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("delays",), "month: is required; fix it, or free it"),
        (("delays", "month"), "parameters are written key=value"),
        (("delays", "month=x"), "month: Input should be a valid integer"),
        (("nosuch",), "there is no UDF 'nosuch'"),
        (("delays", "month=1", "year=2"), "year: unknown parameter; known: month, origin\n"),
        (("sales", "--expires", "soon"), "expires: a duration is written like"),
        (("sales", "--tenant", "a b"), "a tenant is"),
        (("revoke", "0123456789ab"), "`webfoot share list` shows them"),
    ],
)
def test_what_makes_no_link_is_refused(
    commands: Commands, words: tuple[str, ...], message: str
) -> None:
    commands.said("keys", "create", "--role", "viewer")
    assert message in commands.refused("share", *words)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_that_others_reach_does_not_start_open(commands: Commands, host: str) -> None:
    said = commands.refused("serve", "udfs", "--host", host, "--port", "0")
    assert f"on {host} others than this machine could call everything" in said
    assert "webfoot keys create" in said
    assert "--open" in said


def test_a_query_shows_its_token(commands: Commands) -> None:
    key = commands.said("keys", "create", "--role", "viewer")
    with serve(commands.folder, *INLINE, environment=commands.environment) as server:
        words = ("query", "FROM udfs.sales()", "--url", server.url, "--format", "csv")
        told = commands.refused(*words)
        assert "a key is needed; send it as `Authorization: Bearer KEY`" in told
        assert "no catalog" not in told
        assert commands.said(*words, "--token", key).split() == ["n", "1"]
        commands.environment["WEBFOOT_TOKEN"] = key
        assert commands.said(*words).split() == ["n", "1"]
    assert "delays" in commands.said("list", "udfs")


def test_a_server_says_whether_it_is_open(commands: Commands) -> None:
    with serve(commands.folder, *INLINE, environment=commands.environment) as server:
        assert "It is open" in server.printed()
        assert "webfoot keys create" in server.printed()
