"""Secrets: looked up when they are needed, kept for a while, and shown nowhere."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SSM = "ssm:"
_MAX_AGE_S = 300


class SecretUnavailable(LookupError):
    """A secret cannot be had; the message names it and says where it was looked for."""


@dataclass(frozen=True, repr=False)
class Secret:
    """A secret's name and value; only the name is ever shown.

    Args:
        name: What it is looked up by.
        value: What must not be shown.
    """

    name: str
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.name!r}, hidden)"


class SecretProvider(Protocol):
    """A place where secrets are."""

    def find(self, name: str) -> Secret | None:
        """A secret; None if it is not here.

        Raises:
            SecretUnavailable: If it cannot be told whether it is.
        """

    def __str__(self) -> str:
        """Where that is, for messages."""


@dataclass(frozen=True, repr=False)
class EnvironmentSecrets:
    """Variables of the environment: `NAME`, or `NAME_FILE` with the path of a file.

    Args:
        environment: The variables.
    """

    environment: Mapping[str, str]

    def find(self, name: str) -> Secret | None:
        """The variable's value, or the text of the file that it names."""
        if value := self.environment.get(name):
            return Secret(name, value)
        if path := self.environment.get(f"{name}_FILE"):
            return _read(name, Path(path), told_by=f"{name}_FILE")
        return None

    def __str__(self) -> str:
        return "the environment"

    __repr__ = __str__


@dataclass(frozen=True)
class FolderSecrets:
    """Files of a folder, as Docker and Kubernetes mount them.

    Args:
        folder: The folder; it need not exist.
    """

    folder: Path

    def find(self, name: str) -> Secret | None:
        """The text of the file of that name."""
        path = self.folder / name
        return _read(name, path, told_by=str(self.folder)) if path.is_file() else None

    def __str__(self) -> str:
        return str(self.folder)


class SsmSecrets:
    """Parameters of AWS Systems Manager, decrypted.

    Args:
        prefix: What their paths begin with, such as `/webfoot/production`.
        max_age_s: How long a value is kept before it is asked for again, in seconds.
    """

    def __init__(self, prefix: str, max_age_s: int = _MAX_AGE_S) -> None:
        self._prefix = prefix.rstrip("/")
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._provider: Any = None
        self._last: dict[str, Secret] = {}

    def find(self, name: str) -> Secret | None:
        """The parameter's value, asked for at most once in `max_age_s`.

        While SSM does not answer, the last value that it gave holds.
        """
        # Here, because it takes a third of a second and few need it.
        from aws_lambda_powertools.utilities.parameters import SSMProvider  # noqa: PLC0415
        from aws_lambda_powertools.utilities.parameters.exceptions import (  # noqa: PLC0415
            GetParameterError,
        )

        path = f"{self._prefix}/{name}"
        # One at a time: those who wait find it kept.
        with self._lock:
            try:
                self._provider = self._provider or SSMProvider()
                value = self._provider.get(path, max_age=self._max_age_s, decrypt=True)
            except GetParameterError as error:
                # Powertools raises it while it handles botocore's own, and keeps the text only.
                response = getattr(error.__context__, "response", {})
                if response.get("Error", {}).get("Code") == "ParameterNotFound":
                    return None
                if name in self._last:
                    return self._last[name]
                raise SecretUnavailable(
                    f"SSM does not give {path} ({error}); the role needs ssm:GetParameter for it,"
                    " and kms:Decrypt for its key"
                ) from error
            self._last[name] = Secret(name, str(value))
            return self._last[name]

    def __str__(self) -> str:
        return f"{_SSM}{self._prefix}"

    __repr__ = __str__


@dataclass(frozen=True)
class Secrets:
    """Several places, looked into in their order.

    Args:
        providers: The places.
    """

    providers: tuple[SecretProvider, ...]

    def find(self, name: str) -> Secret | None:
        """The first secret of that name; None if there is none.

        Raises:
            SecretUnavailable: If a place fails.
        """
        found = (provider.find(name) for provider in self.providers)
        return next((secret for secret in found if secret is not None), None)

    def get(self, name: str) -> Secret:
        """The first secret of that name.

        Raises:
            SecretUnavailable: If there is none, or a place fails.
        """
        if (secret := self.find(name)) is not None:
            return secret
        places = ", ".join(str(provider) for provider in self.providers)
        raise SecretUnavailable(
            f"there is no secret {name}; looked into: {places}; set the variable {name}, or name"
            " another place in WEBFOOT_SECRETS"
        )


def secrets_of(places: Sequence[str], environment: Mapping[str, str] = os.environ) -> Secrets:
    """Secrets in the places that the setting `secrets` names."""
    return Secrets(tuple(_provider(place, environment) for place in places))


def _provider(place: str, environment: Mapping[str, str]) -> SecretProvider:
    if place == "environment":
        return EnvironmentSecrets(environment)
    if place.startswith(_SSM):
        return SsmSecrets(place.removeprefix(_SSM))
    return FolderSecrets(Path(place))


def _read(name: str, path: Path, told_by: str) -> Secret:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        # Editors end files with a line feed that is no part of the secret.
        return Secret(name, path.read_text(encoding="utf-8").rstrip("\r\n"))
    raise SecretUnavailable(f"{path}, where {told_by} has the secret {name}, cannot be read")
