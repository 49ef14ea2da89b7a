"""Keys without a folder: what the command line exports is what a setting takes."""

from __future__ import annotations

import json
import time

import pytest

from webfoot.access.key_setting import KeySetting, read_keys, write_keys
from webfoot.access.keys import Key, new_id, new_key
from webfoot.access.shares import Share, read_share
from webfoot.errors import Forbidden, ServerBusy, SettingsError

KEY, TEXT = new_key(Key(new_id(), "", ("viewer",), tenant="acme"))
SHARE = Share("0123456789ab", "delays", time.time() + 100_000)
SECRET = "s" * 32


def setting(text: str, secret: str = "") -> KeySetting:
    return KeySetting(lambda: text, lambda: secret)


def test_what_is_exported_is_read() -> None:
    text = write_keys([KEY], ["b" * 12, "a" * 12])
    listed = read_keys(text)
    assert listed.keys == {KEY.id: KEY}
    assert listed.revoked_shares == {"a" * 12, "b" * 12}
    assert TEXT.removeprefix(f"wf_{KEY.id}_") not in text
    keys = setting(text)
    assert keys.exist()
    assert keys.find(KEY.id) == KEY
    assert keys.find("0" * 12) is None
    assert keys.shared("c" * 12)
    assert not keys.shared("a" * 12)


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"keys": [1]}', '{"keys": [{"id": "x"}]}'])
def test_what_is_nothing_of_the_kind_is_an_error(text: str) -> None:
    with pytest.raises(
        SettingsError, match="WEBFOOT_KEYS is not what `webfoot keys export` prints"
    ):
        read_keys(text)


def test_links_need_a_secret() -> None:
    keys = setting(write_keys([], []), SECRET)
    token = keys.give(SHARE)
    assert keys.share_secret() == SECRET.encode()
    assert read_share(token, SECRET.encode()) == SHARE
    without = setting(write_keys([], []))
    assert without.share_secret() is None
    with pytest.raises(Forbidden, match="WEBFOOT_SHARE_SECRET"):
        without.give(SHARE)


def test_a_secret_that_is_changed_is_changed_here() -> None:
    text = write_keys([], [])
    keys = KeySetting(lambda: text, lambda: "")
    assert keys.find(KEY.id) is None
    text = write_keys([KEY], [])
    assert keys.find(KEY.id) == KEY


def test_keys_that_are_out_of_reach_let_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> str:
        raise LookupError("SSM does not give /webfoot/KEYS")

    for keys in (KeySetting(away, away), setting("no JSON"), setting(json.dumps({"keys": 1}))):
        with pytest.raises(ServerBusy, match="cannot reach its keys") as raised:
            keys.find(KEY.id)
        assert "SSM" not in raised.value.detail
    assert "SSM does not give /webfoot/KEYS" in caplog.text
    with pytest.raises(ServerBusy):
        KeySetting(away, lambda: "short").share_secret()
