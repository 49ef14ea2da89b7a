"""The settings decide who is let in; what makes no sense in them is said at the start."""

from __future__ import annotations

import importlib.util
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from webfoot.access.guards import NoGuard
from webfoot.access.key_setting import write_keys
from webfoot.access.keys import Key, new_id, new_key
from webfoot.access.opening import access_of, open_access
from webfoot.access.shares import Share
from webfoot.errors import Forbidden, SettingsError
from webfoot.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

KEY, TEXT = new_key(Key(new_id(), "", ("viewer",)))
SHARE = Share("0123456789ab", "delays", time.time() + 100_000)


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(folder=tmp_path, store=tmp_path / "store", **given)


def test_nothing_is_asked_and_nothing_made_where_nothing_is_set(tmp_path: Path) -> None:
    with closing(access_of(settings(tmp_path))) as access:
        assert not access.guard.asks()
        with pytest.raises(Forbidden, match="webfoot keys create"):
            access.give(SHARE)
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_setting_are_asked_for(tmp_path: Path) -> None:
    listed = write_keys([KEY], [])
    with closing(access_of(settings(tmp_path, keys=listed, share_secret="s" * 32))) as access:
        assert access.guard.asks()
        assert access.keys[-1].find(KEY.id) == KEY
        assert access.give(SHARE)
    assert list(tmp_path.iterdir()) == []


def test_keys_may_be_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/WEBFOOT_ACCESS_KEYS").write_text(write_keys([KEY], []) + "\n")
    given = settings(
        tmp_path, keys="secret:WEBFOOT_ACCESS_KEYS", secrets=(str(tmp_path / "secrets"),)
    )
    with closing(access_of(given)) as access:
        assert access.keys[-1].find(KEY.id) == KEY


def test_the_folder_is_in_the_store_or_where_it_is_said(tmp_path: Path) -> None:
    assert settings(tmp_path).access_folder == tmp_path / "store/access"
    assert settings(tmp_path, access=tmp_path / "here").access_folder == tmp_path / "here"
    bucket = Settings.from_environment({"WEBFOOT_STORE": "s3://bucket"})
    assert bucket.access_folder is None
    assert access_of(bucket).folder is None


def test_no_secret_is_shown_with_the_settings(tmp_path: Path) -> None:
    shown = repr(settings(tmp_path, keys=write_keys([KEY], []), share_secret="s" * 32))
    assert KEY.hash not in shown
    assert "s" * 32 not in shown


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keys": "{}"}, "WEBFOOT_KEYS is not what `webfoot keys export` prints"),
        ({"jwt_issuer": "https://login"}, "WEBFOOT_JWT_AUDIENCE is not"),
        ({"roles": "no.toml"}, "WEBFOOT_ROLES"),
    ],
)
def test_what_makes_no_sense_is_an_error(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    if "roles" in given:
        given = {"roles": tmp_path / given["roles"]}
    with pytest.raises(SettingsError, match=message):
        access_of(settings(tmp_path, **given))


def test_inside_a_process_nobody_is_asked() -> None:
    with closing(open_access()) as access:
        assert isinstance(access.guard, NoGuard)
        assert access.folder is None


def test_tokens_need_a_library_that_not_everybody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    given = {"jwt_issuer": "https://login", "jwt_audience": "webfoot"}
    with pytest.raises(SettingsError, match=r"install webfoot\[oidc\]"):
        access_of(settings(tmp_path, **given))
