"""Secrets are found in their places, kept for a while, and shown nowhere."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.s3_server import moto_server

from webfoot.database.secrets import (
    EnvironmentSecrets,
    FolderSecrets,
    Secret,
    Secrets,
    SecretUnavailable,
    SsmSecrets,
    secrets_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_ssm import SSMClient

PASSWORD = "correct horse"


def test_a_secret_shows_its_name_only() -> None:
    secret = Secret("DSN", PASSWORD)
    assert (
        PASSWORD not in f"{secret} {secret!r} {[secret]} {vars(Secrets((FolderSecrets(Path()),)))}"
    )
    assert "DSN" in repr(secret)


def test_a_variable_or_the_file_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text(f"{PASSWORD}\r\n")
    assert EnvironmentSecrets({"DSN": PASSWORD}).find("DSN") == Secret("DSN", PASSWORD)
    assert EnvironmentSecrets({"DSN_FILE": str(file)}).find("DSN") == Secret("DSN", PASSWORD)
    assert EnvironmentSecrets({"DSN": ""}).find("DSN") is None
    assert PASSWORD not in repr(EnvironmentSecrets({"DSN": PASSWORD}))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match="where DSN_FILE has the secret DSN, cannot be"):
        EnvironmentSecrets({"DSN_FILE": str(tmp_path / "none")}).find("DSN")


def test_a_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "DSN").write_text(PASSWORD)
    secrets = FolderSecrets(tmp_path)
    assert secrets.find("DSN") == Secret("DSN", PASSWORD)
    assert secrets.find("OTHER") is None
    assert FolderSecrets(tmp_path / "none").find("DSN") is None


def test_a_file_is_read_anew_so_that_it_can_be_rotated(tmp_path: Path) -> None:
    secrets = FolderSecrets(tmp_path)
    for value in ("one", "two"):
        (tmp_path / "DSN").write_text(value)
        assert secrets.find("DSN") == Secret("DSN", value)


def test_the_first_place_wins_and_a_missing_one_names_them_all(tmp_path: Path) -> None:
    (tmp_path / "DSN").write_text("of the folder")
    (tmp_path / "OTHER").write_text("other")
    secrets = secrets_of(("environment", str(tmp_path)), {"DSN": "of the environment"})
    assert secrets.get("DSN").value == "of the environment"
    assert secrets.get("OTHER").value == "other"
    assert secrets.find("NONE") is None
    told = rf"no secret NONE; looked into: the environment, {tmp_path}; set the variable NONE"
    with pytest.raises(SecretUnavailable, match=told):
        secrets.get("NONE")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with moto_server() as server:
        yield server.endpoint


@pytest.fixture
def ssm(address: str, monkeypatch: pytest.MonkeyPatch) -> SSMClient:
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("ssm")
    client.put_parameter(Name="/app/DSN", Value=PASSWORD, Type="SecureString", Overwrite=True)
    return client


def test_a_parameter_of_ssm_is_decrypted(ssm: SSMClient) -> None:
    secrets = secrets_of(("ssm:/app/",), {})
    assert secrets.get("DSN") == Secret("DSN", PASSWORD)
    assert secrets.find("NONE") is None
    assert str(secrets.providers[0]) == "ssm:/app"


def test_it_is_asked_for_once(ssm: SSMClient) -> None:
    """What is changed meanwhile is seen only when the value has become too old."""
    secrets = SsmSecrets("/app")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(secrets.find, ["DSN"] * 40)) == {Secret("DSN", PASSWORD)}
    ssm.put_parameter(Name="/app/DSN", Value="rotated", Type="SecureString", Overwrite=True)
    assert secrets.find("DSN") == Secret("DSN", PASSWORD)


def test_it_is_asked_for_again_when_it_is_too_old(ssm: SSMClient) -> None:
    secrets = SsmSecrets("/app", max_age_s=1)
    assert secrets.find("DSN") == Secret("DSN", PASSWORD)
    ssm.put_parameter(Name="/app/DSN", Value="rotated", Type="SecureString", Overwrite=True)
    until = time.monotonic() + 20
    while secrets.find("DSN") != Secret("DSN", "rotated"):
        assert time.monotonic() < until


def test_the_last_value_holds_while_ssm_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("ssm").put_parameter(
        Name="/app/DSN", Value=PASSWORD, Type="String", Overwrite=True
    )
    secrets = SsmSecrets("/app", max_age_s=0)
    assert secrets.find("DSN") == Secret("DSN", PASSWORD)
    server.stop()
    assert secrets.find("DSN") == Secret("DSN", PASSWORD)
    with pytest.raises(SecretUnavailable):
        secrets.find("OTHER")


def test_a_refusal_names_what_the_role_needs(
    ssm: SSMClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(SecretUnavailable, match=r"SSM does not give /app/DSN .*ssm:GetParameter"):
        SsmSecrets("/app").find("DSN")


def test_no_value_is_logged(ssm: SSMClient, caplog: pytest.LogCaptureFixture) -> None:
    """Ours; botocore's own log of answers has them, if somebody turns it on."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("botocore").setLevel(logging.INFO)
        secrets = secrets_of(("environment", "ssm:/app"), {})
        secrets.get("DSN")
        logging.getLogger("x").error("%s %r", secrets, secrets.get("DSN"))
    assert PASSWORD not in caplog.text
