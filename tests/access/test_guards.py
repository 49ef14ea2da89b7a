"""Who is let in: with a key, by a link, with a token; and without, only where that is safe."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from webfoot.access import guards
from webfoot.access.guards import ANYBODY, Asker, DoorGuard, NoGuard
from webfoot.access.key_folder import KeyFolder
from webfoot.access.key_setting import KeySetting, write_keys
from webfoot.access.keys import Key, new_id, new_key, rotated
from webfoot.access.principal import Principal
from webfoot.access.roles import Policy
from webfoot.access.shares import Share
from webfoot.access.throttling import Limits, Rate
from webfoot.errors import ServerBusy, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCAL = ("127.0.0.1", 8000)


def scope(*headers: tuple[str, str], query: str = "", server: Any = LOCAL) -> dict[str, Any]:
    told = [(name.lower().encode(), value.encode()) for name, value in headers]
    return {"headers": told, "query_string": query.encode(), "server": server}


def bearer(text: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {text}"


@dataclass
class Door:
    """A guard and its folder of keys."""

    guard: DoorGuard
    folder: KeyFolder
    saw: list[str]

    def ask(self, *headers: tuple[str, str], **given: Any) -> Asker:
        asked = scope(*headers, **given)
        return self.guard.recall(asked) or asyncio.run(self.guard.identify(asked))

    def refused(self, *headers: tuple[str, str], **given: Any) -> str:
        with pytest.raises(Unauthorized) as raised:
            self.ask(*headers, **given)
        return raised.value.detail

    def give(self, **given: Any) -> tuple[Key, str]:
        key, text = new_key(Key(**{"id": new_id(), "hash": "", "roles": ("viewer",), **given}))
        self.folder.add_key(key)
        # What the guard has looked up is good for half a second; nobody wants to wait for that.
        self.guard._looked = float("-inf")
        return key, text


def door_of(place: Path, *, welcomes_all: bool = False) -> Door:
    folder, saw = KeyFolder(place), list[str]()
    guard = DoorGuard(Policy(), [folder], None, saw.append, welcomes_all=welcomes_all)
    return Door(guard, folder, saw)


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setattr(guards, "_FRESH_S", 0.0)
    made = door_of(tmp_path / "access")
    yield made
    made.folder.close()


@pytest.mark.parametrize("server", [LOCAL, ("127.8.0.3", 1), ("::1", 80), ("/run/webfoot", None)])
def test_while_nobody_has_a_key_this_machine_is_let_in(door: Door, server: Any) -> None:
    assert not door.guard.asks()
    assert door.ask(server=server) is ANYBODY
    # A proxy in front may have a use of its own for it.
    assert door.ask(("Authorization", "Basic eDp5"), server=server) is ANYBODY


@pytest.mark.parametrize(
    "server",
    [("10.0.0.5", 80), ("127.0.0.1.evil.example", 80), ("::12", 1), ("localhost", 1), None],
)
def test_and_nobody_else_is_unless_they_are_meant_to(
    door: Door, server: Any, tmp_path: Path
) -> None:
    assert "WEBFOOT_OPEN=true" in door.refused(server=server)
    welcoming = door_of(tmp_path / "none", welcomes_all=True)
    assert welcoming.ask(server=server) is ANYBODY


def test_the_first_key_closes_the_door_for_good(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(guards, "_FRESH_S", 0.0)
    door = door_of(tmp_path / "access", welcomes_all=True)
    assert door.ask() is ANYBODY
    _, text = door.give()
    assert "a key is needed" in door.refused()
    assert door.ask(bearer(text)).principal.roles == ("viewer",)
    door.folder.close()
    # Not even the loss of the folder opens it again.
    for path in (tmp_path / "access").iterdir():
        path.unlink()
    (tmp_path / "access").rmdir()
    assert "a key is needed" in door.refused()
    assert "not known" in door.refused(bearer(text))


def test_a_key_is_shown_in_one_of_three_ways(door: Door) -> None:
    key, text = door.give(tenant="acme")
    basic = base64.b64encode(f"any:{text}".encode()).decode()
    for header in (bearer(text), ("X-API-Key", text), ("Authorization", f"Basic {basic}")):
        assert door.ask(header).principal == Principal(f"key:{key.id}", "acme", ("viewer",))
    assert "a key is needed" in door.refused(("Authorization", "Negotiate x"))
    assert "a key is needed" in door.refused(("Cookie", text))
    assert "a key is needed" in door.refused(query=f"key={text}&token={text}&access_token={text}")


def test_a_key_has_what_its_roles_allow_within_what_it_was_given(door: Door) -> None:
    _, text = door.give(
        roles=("analyst", "forgotten"), udfs=("sales_*",), limits=Limits(Rate(5, 1.0))
    )
    asker = door.ask(bearer(text))
    assert asker.rights.sees("sales_eu")
    assert not asker.rights.sees("costs")
    assert asker.rights.has("sql")
    assert not asker.rights.has("admin")
    assert asker.limits == Limits(Rate(5, 1.0))


def test_what_becomes_of_a_key_is_seen(door: Door) -> None:
    key, text = door.give(expires=time.time() + 1000)
    assert door.ask(bearer(text))
    after, new = rotated(key, 0)
    door.folder.replace_key(after)
    assert "not known" in door.refused(bearer(text))
    assert door.ask(bearer(new))
    door.folder.replace_key(replace(after, expires=time.time() - 1))
    assert "expired" in door.refused(bearer(new))
    door.folder.replace_key(after)
    assert door.ask(bearer(new))
    door.folder.revoke("key", key.id)
    assert "revoked" in door.refused(bearer(new))


def test_a_known_key_is_not_looked_up_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = door_of(tmp_path / "access")
    _, text = door.give()
    looked = []
    find = door.folder.find

    def noted(name: str) -> Key | None:
        looked.append(name)
        return find(name)

    monkeypatch.setattr(door.folder, "find", noted)
    now = time.monotonic()
    monkeypatch.setattr("webfoot.access.guards.time.monotonic", lambda: now)
    for _ in range(100):
        door.ask(bearer(text))
    assert len(looked) == 1
    assert len(door.saw) == 1
    monkeypatch.setattr("webfoot.access.guards.time.monotonic", lambda: now + 0.6)
    before = door.ask(bearer(text))
    assert len(looked) == 2
    assert door.saw == [before.principal.id] * 2
    # What was found out for somebody holds while they are who they were.
    monkeypatch.setattr("webfoot.access.guards.time.monotonic", lambda: now + 1.2)
    assert door.ask(bearer(text)) is before
    door.folder.close()


def test_a_key_that_ends_in_a_moment_is_not_remembered_beyond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = door_of(tmp_path / "access")
    now, clock = time.time(), time.monotonic()
    monkeypatch.setattr("webfoot.access.guards.time.time", lambda: now)
    monkeypatch.setattr("webfoot.access.guards.time.monotonic", lambda: clock)
    _, text = door.give(expires=now + 0.2)
    assert door.ask(bearer(text))
    monkeypatch.setattr("webfoot.access.guards.time.time", lambda: now + 0.21)
    monkeypatch.setattr("webfoot.access.guards.time.monotonic", lambda: clock + 0.21)
    assert "expired" in door.refused(bearer(text))
    door.folder.close()


def test_a_link_is_let_in_until_it_is_revoked(door: Door) -> None:
    door.give()
    share = Share(new_id(), "delays", time.time() + 100, rate="5/s", tenant="acme")
    token = door.folder.give(share)
    asker = door.ask(query=f"a=1&_share={token}")
    assert vars(asker) == vars(Asker(share.principal, share.rights, share.limits, share))
    assert "not one that this server gave out" in door.refused(query=f"_share={token}x")
    door.folder.revoke("share", share.id)
    assert "revoked" in door.refused(query=f"_share={token}")


def test_a_link_goes_before_a_key(door: Door) -> None:
    _, text = door.give(roles=("admin",))
    token = door.folder.give(Share(new_id(), "delays", time.time() + 100))
    assert door.ask(bearer(text), query=f"_share={token}").share is not None
    # With a link that is no good, the key is no help: it would not do what the address says.
    assert door.refused(bearer(text), query="_share=x")
    # The one is not the other, even if they are the same letters.
    assert "not known" in door.refused(bearer(token))


def test_a_link_of_another_server_is_not_good(door: Door, tmp_path: Path) -> None:
    door.give()
    elsewhere = door_of(tmp_path / "elsewhere")
    elsewhere.give()
    token = elsewhere.folder.give(Share(new_id(), "delays", time.time() + 100))
    assert "not one that this server gave out" in door.refused(query=f"_share={token}")
    door.folder.give(Share(new_id(), "delays", time.time() + 100))
    assert "not one that this server gave out" in door.refused(query=f"_share={token}")
    elsewhere.folder.close()


def test_keys_and_links_of_a_setting_are_good_too(tmp_path: Path) -> None:
    key, text = new_key(Key(new_id(), "", ("viewer",)))
    secret = "s" * 32
    gone = new_id()
    setting = KeySetting(lambda: write_keys([key], [gone]), lambda: secret)
    folder = KeyFolder(tmp_path / "access")
    saw: list[str] = []
    guard = DoorGuard(Policy(), [folder, setting], None, saw.append, welcomes_all=True)
    door = Door(guard, folder, saw)
    assert guard.asks()
    assert door.ask(bearer(text)).principal == key.principal
    token = setting.give(Share(new_id(), "delays", time.time() + 100))
    assert door.ask(query=f"_share={token}").share is not None
    revoked = setting.give(Share(gone, "delays", time.time() + 100))
    assert "revoked" in door.refused(query=f"_share={revoked}")


def test_keys_that_cannot_be_read_let_nobody_in(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, text = door.give()

    def broken(_: str) -> None:
        raise OSError("disk I/O error")

    monkeypatch.setattr(door.folder, "find", broken)
    with pytest.raises(ServerBusy, match="cannot reach its keys"):
        door.ask(bearer(text))
    assert "disk I/O error" in caplog.text


def test_inside_a_process_nobody_is_asked() -> None:
    guard = NoGuard()
    assert not guard.asks()
    assert asyncio.run(guard.identify(scope(server=("10.0.0.1", 1)))) is ANYBODY


def test_what_strangers_invent_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "_REMEMBERED", 3)
    door = door_of(tmp_path / "access")
    for _ in range(10):
        door.ask(bearer(door.give()[1]))
        door.refused(bearer("wf_" + new_id() + "_" + "x" * 43))
    assert len(door.guard._known) <= 3
    door.folder.close()


def test_a_key_is_not_kept_for_long_nor_is_much_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("webfoot.access.guards.time.monotonic", lambda: clock)
    door = door_of(tmp_path / "access")
    (_, early), (_, late) = door.give(), door.give()
    assert door.ask(bearer(early)) is door.ask(bearer(early))
    clock += 61
    door.ask(bearer(late))
    assert list(door.guard._known) == [f"Bearer {late}".encode()]
    # A browser sends any name beside a key.
    pair = base64.b64encode(f"{'x' * 4000}:{late}".encode()).decode()
    assert (
        door.ask(("Authorization", f"Basic {pair}")).principal == door.ask(bearer(late)).principal
    )
    assert list(door.guard._known) == [f"Bearer {late}".encode()]
    door.folder.close()
