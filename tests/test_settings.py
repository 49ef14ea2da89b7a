"""Each setting is a variable; a variable that is no setting is an error."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from webfoot.datasets import Dataset
from webfoot.errors import SettingsError
from webfoot.settings import PREFIX, S3Encryption, S3Place, Settings

# One text per setting, none of which means the default.
TEXTS: dict[str, tuple[str, object]] = {
    "folder": ("my/udfs", Path("my/udfs")),
    "store": ("/srv/store", Path("/srv/store")),
    "store_size": ("1.5GB", 1_500_000_000),
    "s3_endpoint": ("http://localhost:9000/", "http://localhost:9000"),
    "s3_region": ("eu-west-1", "eu-west-1"),
    "invocations": ("0", 0),
    "drain": ("10s", 10.0),
    "s3_url_style": ("path", "path"),
    "s3_encryption": ("aws:kms/key", S3Encryption("aws:kms", "key")),
    "redirect": ("1MB", 1_000_000),
    "runner": ("inline", "inline"),
    "workers": ("97", 97),
    "queue": ("3", 3),
    "queue_wait": ("30s", 30.0),
    "calls": ("7", 7),
    "depth": ("4", 4),
    "timeout": ("1m30s", 90.0),
    "hold": ("5s", 5.0),
    "job_timeout": ("6h", 21_600.0),
    "memory": ("512MB", 512_000_000),
    "cache": ("forever", math.inf),
    "sql": ("off", False),
    "sql_limit": ("20", 20),
    "sql_rows": ("5000", 5000),
    "sql_size": ("1MB", 1_000_000),
    "sql_timeout": ("5s", 5.0),
    "sql_memory": ("4GB", 4_000_000_000),
    "lake": ("taxi=s3://bucket/taxi/", (Dataset("taxi", "s3://bucket/taxi/"),)),
    "reload": ("on", True),
    "debug": ("true", True),
    "base_url": ("https://example.org/tables/", "https://example.org/tables"),
    "trusted_proxies": ("10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    "request_log": ("0", 0),
    "log": ("json", "json"),
    "duckdb_errors": ("no", False),
    "open": ("true", True),
    "access": ("/srv/access", Path("/srv/access")),
    "keys": ("secret:KEYS", "secret:KEYS"),
    "share_secret": ("s" * 32, "s" * 32),
    "roles": ("roles.toml", Path("roles.toml")),
    "requests": ("50", 50),
    "jwt_issuer": ("https://login.example/", "https://login.example/"),
    "jwt_audience": ("webfoot", "webfoot"),
    "jwt_keys": ("https://login.example/keys", "https://login.example/keys"),
    "jwt_algorithms": ("EdDSA, PS256", ("EdDSA", "PS256")),
    "jwt_roles": ("groups", "groups"),
    "jwt_tenant": ("org", "org"),
    "temp": ("/scratch", Path("/scratch")),
    "extensions": ("/srv/extensions", Path("/srv/extensions")),
    "extension_downloads": ("yes", True),
    "secrets": ("ssm:/prod, environment", ("ssm:/prod", "environment")),
}
NAMES = [item.name for item in fields(Settings)]


def test_the_table_here_has_every_setting() -> None:
    assert set(NAMES) <= set(TEXTS), "add the new setting to TEXTS"


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_reads_from_its_variable(name: str) -> None:
    text, value = TEXTS[name]
    settings = Settings.from_environment({PREFIX + name.upper(): text})
    assert getattr(settings, name) == value != getattr(Settings(), name)
    others = {other for other in NAMES if getattr(settings, other) != getattr(Settings(), other)}
    assert others == {name}


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_says_what_it_is_for(name: str) -> None:
    (setting,) = (item for item in fields(Settings) if item.name == name)
    assert setting.metadata["help"].endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_means_the_default(name: str) -> None:
    assert Settings.from_environment({PREFIX + name.upper(): ""}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("WEBFOOT_STORE_SIZE", "big", "a size is written like '512MB'"),
        ("WEBFOOT_STORE_SIZE", "0", "a size must be positive"),
        ("WEBFOOT_STORE", "s3://", "write a bucket like 's3://bucket/prefix'"),
        ("WEBFOOT_STORE", "s3://key@bucket", "write a bucket like"),
        ("WEBFOOT_S3_ENDPOINT", "localhost:9000", "write an endpoint like"),
        ("WEBFOOT_S3_ENDPOINT", "http://localhost:9000/bucket", "write an endpoint like"),
        ("WEBFOOT_S3_URL_STYLE", "paths", "choose auto, path or virtual"),
        ("WEBFOOT_S3_ENCRYPTION", "yes", "write 'AES256', 'aws:kms'"),
        ("WEBFOOT_S3_ENCRYPTION", "AES256/key", "write 'AES256', 'aws:kms'"),
        ("WEBFOOT_RUNNER", "threads", "choose processes or inline"),
        ("WEBFOOT_WORKERS", "0", "write a whole number, 1 or more"),
        ("WEBFOOT_WORKERS", "-1", "write a whole number, 1 or more"),
        ("WEBFOOT_WORKERS", "two", "write a whole number, 1 or more"),
        ("WEBFOOT_WORKERS", "²", "write a whole number, 1 or more"),
        ("WEBFOOT_QUEUE", "1.5", "write a whole number, 1 or more"),
        ("WEBFOOT_TIMEOUT", "soon", "a duration is written like '30s'"),
        ("WEBFOOT_TIMEOUT", "0", "a timeout must be above 0"),
        ("WEBFOOT_MEMORY", "-5MB", "a size is written like"),
        ("WEBFOOT_CACHE", "-1", "a duration is written like"),
        ("WEBFOOT_RELOAD", "maybe", "write true or false"),
        ("WEBFOOT_DEBUG", "2", "write true or false"),
        ("WEBFOOT_DUCKDB_ERRORS", "off ", "write true or false"),
        ("WEBFOOT_BASE_URL", "example.org", "write it like 'https://host/prefix'"),
        ("WEBFOOT_BASE_URL", "ftp://example.org", "write it like"),
        ("WEBFOOT_BASE_URL", "https://", "write it like"),
        ("WEBFOOT_BASE_URL", "https://host/?a=1", "write it like"),
        ("WEBFOOT_BASE_URL", "https://host/*", "write it like"),
        ("WEBFOOT_REQUEST_LOG", "much", "a size is written like"),
        ("WEBFOOT_LOG", "xml", "choose text, json or emf"),
        ("WEBFOOT_EXTENSION_DOWNLOADS", "often", "write true or false"),
        ("WEBFOOT_SECRETS", "vault", "write 'environment', an absolute folder, or 'ssm:/prefix'"),
        ("WEBFOOT_JWT_ISSUER", "login.example", "write it like 'https://host/prefix'"),
        ("WEBFOOT_JWT_ALGORITHMS", "HS256", "choose from RS256, RS384"),
        ("WEBFOOT_JWT_ALGORITHMS", "none", "which sign with a key of their own"),
        ("WEBFOOT_REQUESTS", "0", "write a whole number, 1 or more"),
        ("WEBFOOT_TRUSTED_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("WEBFOOT_TRUSTED_PROXIES", "proxy", "write addresses like '10.0.0.0/8, ::1', or '*'"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({variable: text})
    assert str(caught.value).startswith(f"{variable}: ")
    assert message in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_secret_that_is_too_short_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="write 32 letters or more") as caught:
        Settings.from_environment({"WEBFOOT_SHARE_SECRET": "hunter2"})
    assert "hunter2" not in str(caught.value)
    named = Settings.from_environment({"WEBFOOT_SHARE_SECRET": "secret:LINKS"})
    assert named.share_secret == "secret:LINKS"


def test_a_bad_value_tells_no_secret() -> None:
    with pytest.raises(SettingsError, match=r"write it like .* got 'https://me:\*\*\*@host/'"):
        Settings.from_environment({"WEBFOOT_BASE_URL": "https://me:secret@host/"})


@pytest.mark.parametrize("variable", ["WEBFOOT_COLOUR", "WEBFOOT_folder", "WEBFOOT_"])
def test_a_variable_that_is_no_setting_is_named(variable: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable} is no setting; known: WEBFOOT_FOLDER, "):
        Settings.from_environment({variable: "1"})


def test_a_variable_that_is_nearly_a_setting_is_told_which() -> None:
    with pytest.raises(SettingsError, match=r"no setting; did you mean WEBFOOT_WORKERS\?$"):
        Settings.from_environment({"WEBFOOT_WORKER": "3"})


def test_variables_of_others_are_nobody_s_business() -> None:
    assert Settings.from_environment({"PATH": "/bin", "MYWEBFOOT_X": "1"}) == Settings()


def test_what_is_given_wins_and_none_is_not_given() -> None:
    environment = {"WEBFOOT_WORKERS": "3", "WEBFOOT_QUEUE": "4"}
    settings = Settings.from_environment(environment, workers=5, queue=None)
    assert (settings.workers, settings.queue) == (5, 4)


def test_the_process_s_environment_is_read_when_none_is_given() -> None:
    code = "from webfoot.settings import Settings; print(Settings.from_environment().workers)"
    environment = {**os.environ, "WEBFOOT_WORKERS": "97"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "97"


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().workers = 5  # type: ignore[misc]  # what is refused


def test_results_are_kept_in_the_user_s_cache_not_in_the_working_folder() -> None:
    store = Settings().store
    assert isinstance(store, Path)
    assert store.is_absolute()
    assert Settings().workers >= 1


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("s3://tables", S3Place("tables"), "calls/1"),
        ("s3://tables/", S3Place("tables"), "calls/1"),
        ("s3://tables/a/b/", S3Place("tables", "a/b"), "a/b/calls/1"),
    ],
)
def test_a_store_may_be_a_bucket(text: str, place: S3Place, name: str) -> None:
    settings = Settings.from_environment({"WEBFOOT_STORE": text})
    assert settings.store == place
    assert place.name("calls/1") == name
    assert str(place) == text.rstrip("/")
