"""Settings of a server: one frozen record, read from the environment once, at the edge."""

from __future__ import annotations

import difflib
import ipaddress
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import platformdirs

from webfoot import quantities
from webfoot.datasets import Dataset, read_datasets
from webfoot.errors import SettingsError
from webfoot.masking import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "WEBFOOT_"
# Of those who ask servers: no setting of one.
TOKEN_VARIABLE = "WEBFOOT_TOKEN"  # noqa: S105  # nosec B105  # a name
# How a setting begins that only says where its value is kept.
IN_SECRETS = "secret:"
LEAST_SECRET = 32
# Of JSON Web Tokens; nobody who checks a token could make one.
_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_EVERYBODY = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))


@dataclass(frozen=True)
class S3Place:
    """Where in S3 a store is.

    Args:
        bucket: The bucket.
        prefix: What the names of its objects begin with; no slash at either end.
    """

    bucket: str
    prefix: str = ""

    def name(self, below: str) -> str:
        """The whole name of an object."""
        return f"{self.prefix}/{below}" if self.prefix else below

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class S3Encryption:
    """How objects are encrypted where they lie.

    Args:
        kind: As S3 calls it; empty for the bucket's own default.
        key: The id of a KMS key; empty for the account's own.
    """

    kind: str = ""
    key: str = ""

    def options(self) -> dict[str, str]:
        """What a request that writes says of it."""
        told = {"ServerSideEncryption": self.kind, "SSEKMSKeyId": self.key}
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True)
class S3Access:
    """How S3 is reached; credentials are found as everything of Amazon's finds them.

    Args:
        endpoint: The address of an S3 server; empty for Amazon's.
        region: The bucket's region; empty for what the environment says.
        url_style: Whether the bucket is in the `path` or the host (`virtual`) of a URL, or `auto`.
        encryption: Of what is written.
    """

    endpoint: str = ""
    region: str = ""
    url_style: Literal["auto", "path", "virtual"] = "auto"
    encryption: S3Encryption = S3Encryption()


def _setting(
    default: Any, read: Callable[[str], Any], help_text: str, *, shown: bool = True
) -> Any:
    return field(default=default, repr=shown, metadata={"read": read, "help": help_text})


def _read_bool(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"write true or false, got {text!r}")


def _read_number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"write a whole number, 0 or more, got {text!r}")
    return int(text)


def _read_count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() else 0
    if count < 1:
        raise ValueError(f"write a whole number, 1 or more, got {text!r}")
    return count


def _read_runner(text: str) -> str:
    if text not in ("processes", "inline"):
        raise ValueError(f"choose processes or inline, got {text!r}")
    return text


def _read_log_size(text: str) -> int:
    return 0 if text.strip() == "0" else quantities.size(text)


def _read_log(text: str) -> str:
    if text not in ("text", "json", "emf"):
        raise ValueError(f"choose text, json or emf, got {text!r}")
    return text


def _read_base_url(text: str) -> str:
    parts = urlsplit(text)
    plain = not (parts.query or parts.fragment or parts.username or set(text) & set("'\"<>\\ *[{"))
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError(f"write it like 'https://host/prefix', got {text!r}")
    return text.rstrip("/")


def _read_address(text: str) -> str:
    """An address that is compared as it is written, with a slash at its end or without."""
    _read_base_url(text)
    return text


def _read_networks(text: str) -> tuple[Network, ...]:
    if text.strip() == "*":
        return _EVERYBODY
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"write addresses like '10.0.0.0/8, ::1', or '*', got {text!r} ({error})"
        ) from error


def _read_share_secret(text: str) -> str:
    if len(text) < LEAST_SECRET and not text.startswith(IN_SECRETS):
        raise ValueError(
            f"write {LEAST_SECRET} letters or more that nobody can guess (`openssl rand -hex 32`"
            f" makes them), or '{IN_SECRETS}NAME', got {len(text)}"
        )
    return text


def _read_algorithms(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in _ALGORITHMS:
            raise ValueError(
                f"choose from {', '.join(_ALGORITHMS)}, which sign with a key of their own, got"
                f" {name!r}"
            )
    return names


def _read_secret_places(text: str) -> tuple[str, ...]:
    places = tuple(part.strip() for part in text.split(","))
    for place in places:
        if place != "environment" and not place.startswith(("/", "ssm:/")):
            raise ValueError(
                f"write 'environment', an absolute folder, or 'ssm:/prefix', got {place!r}"
            )
    return places


def _read_store(text: str) -> Path | S3Place:
    if not text.startswith("s3:"):
        return Path(text)
    parts = urlsplit(text)
    if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"write a bucket like 's3://bucket/prefix', got {text!r}")
    return S3Place(parts.netloc, parts.path.strip("/"))


def _read_endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"write an endpoint like 'https://host:9000', got {text!r}")
    return text.rstrip("/")


def _read_url_style(text: str) -> str:
    if text not in ("auto", "path", "virtual"):
        raise ValueError(f"choose auto, path or virtual, got {text!r}")
    return text


def _read_encryption(text: str) -> S3Encryption:
    kind, _, key = text.partition("/")
    if kind not in ("AES256", "aws:kms", "aws:kms:dsse") or (key and kind == "AES256"):
        raise ValueError(f"write 'AES256', 'aws:kms' or 'aws:kms/KEY-ID', got {text!r}")
    return S3Encryption(kind, key)


def cores() -> int:
    """How many of the machine's processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server behaves. Each field is also `WEBFOOT_` and its name, in capitals."""

    folder: Path = _setting(Path("udfs"), Path, "The folder of UDF files.")  # noqa: RUF009  # it is a field
    store: Path | S3Place = _setting(  # noqa: RUF009  # it is a field
        Path(platformdirs.user_cache_dir("webfoot", appauthor=False)) / "store",
        _read_store,
        "Where results are kept, a folder or `s3://bucket/prefix`; servers that share it share"
        " results.",
    )
    store_size: int = _setting(
        10 * 10**9,
        quantities.size,
        "How large the store may grow before the least used go; of S3, what is kept on this"
        " machine.",
    )
    s3_endpoint: str = _setting("", _read_endpoint, "The address of an S3 server, if not Amazon's.")
    s3_region: str = _setting("", str, "The bucket's region, if the environment does not say.")
    s3_url_style: Literal["auto", "path", "virtual"] = _setting(
        "auto", _read_url_style, "Whether the bucket is in the `path` or in the host (`virtual`)."
    )
    s3_encryption: S3Encryption = _setting(  # noqa: RUF009  # it is a field
        S3Encryption(),
        _read_encryption,
        "How objects are encrypted, `AES256`, `aws:kms` or `aws:kms/KEY-ID`; the bucket's default"
        " if not given.",
    )
    # Amazon's Lambda answers at most 6 MB, which base64 makes 4.5.
    redirect: int = _setting(
        4_000_000, quantities.size, "From what size on a bucket answers in place of the server."
    )
    runner: Literal["processes", "inline"] = _setting(
        "processes", _read_runner, "Where UDFs run: `processes`, or `inline` to debug one."
    )
    workers: int = _setting(cores(), _read_count, "How many UDFs run at once.")
    queue: int = _setting(256, _read_count, "How many calls may wait before the answer is 503.")
    queue_wait: float = _setting(
        120.0,
        quantities.timeout,
        "How long a call may have to wait for its turn, as far as can be told, before the answer is"
        " 503.",
    )
    calls: int = _setting(
        100_000, _read_count, "How many calls one request may lead to, through all that it calls."
    )
    depth: int = _setting(16, _read_count, "How deep UDFs may call UDFs.")
    invocations: int = _setting(
        50,
        _read_number,
        "On Lambda: in how many other instances at once what a UDF calls may run; 0 for none.",
    )
    timeout: float = _setting(
        120.0, quantities.timeout, "How long a run may take, unless its UDF says otherwise."
    )
    hold: float = _setting(
        25.0,
        quantities.timeout,
        "How long a request waits for a run before it is sent on, to wait for it as a job.",
    )
    drain: float = _setting(
        5.0,
        quantities.seconds,
        "How long the server answers after SIGTERM, while `/readyz` says that it is not ready.",
    )
    job_timeout: float = _setting(
        3600.0,
        quantities.timeout,
        "How long a run of a job may take, unless its UDF says otherwise.",
    )
    memory: int = _setting(
        2 * 10**9, quantities.size, "How much memory a run may use, unless its UDF says otherwise."
    )
    # Ten minutes: long enough that a person who explores a table, or a dashboard that draws it
    # with several queries, pays for one run; short enough that a UDF over changing data surprises
    # nobody.
    cache: float = _setting(
        600.0, quantities.seconds, "How long a result is fresh, unless its UDF says otherwise."
    )
    sql: bool = _setting(True, _read_bool, "Whether SQL is answered, at `/query`.")
    sql_limit: int = _setting(
        1_000, _read_count, "How many rows `POST /query` answers with, unless it says otherwise."
    )
    sql_rows: int = _setting(1_000_000, _read_count, "How many rows a query may have.")
    sql_size: int = _setting(
        256 * 10**6, quantities.size, "How large the rows of a query may be, in memory."
    )
    sql_timeout: float = _setting(
        60.0, quantities.timeout, "How long a query may take, with all that it calls."
    )
    sql_memory: int = _setting(10**9, quantities.size, "How much memory a query may use.")
    lake: tuple[Dataset, ...] = _setting(
        (),
        read_datasets,
        "Files that SQL reads by a name, as `name=place, …`: paths, `s3://…`, `https://…`.",
    )
    reload: bool = _setting(False, _read_bool, "Whether saved files go live at once.")
    debug: bool = _setting(
        False, _read_bool, "Whether errors and run records show the author's traceback and output."
    )
    base_url: str = _setting(
        "",
        _read_base_url,
        "The server's address as its clients write it; what requests say if it is not given.",
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        _LOOPBACK, _read_networks, "Whose `X-Forwarded-` headers are believed; `*` for all."
    )
    request_log: int = _setting(
        100 * 10**6,
        _read_log_size,
        "How large the records of requests may grow before the oldest go; `0` keeps none.",
    )
    log: Literal["text", "json", "emf"] = _setting(
        "text",
        _read_log,
        "How the server's log is written: `text`; `json`, with a line for each request; or `emf`,"
        " JSON that CloudWatch makes metrics of.",
    )
    duckdb_errors: bool = _setting(
        True,
        _read_bool,
        "Whether DuckDB is told errors inside a Parquet file, where it shows them.",
    )
    open: bool = _setting(
        False,
        _read_bool,
        "Whether others than this machine are let in while nobody has been given a key.",
    )
    access: Path | None = _setting(  # noqa: RUF009  # it is a field
        None,
        lambda text: Path(text).absolute(),
        "The folder of keys and share links; `access` in the store, if that is a folder.",
    )
    keys: str = _setting(
        "",
        str,
        "Keys without such a folder: what `webfoot keys export` prints, or `secret:NAME`.",
        shown=False,
    )
    share_secret: str = _setting(
        "",
        _read_share_secret,
        "What signs share links without such a folder, 32 letters or more, or `secret:NAME`.",
        shown=False,
    )
    roles: Path | None = _setting(  # noqa: RUF009  # it is a field
        None, Path, "A TOML file of roles, and of limits of UDFs."
    )
    requests: int = _setting(
        1_000, _read_count, "How many requests are answered at once before the answer is 503."
    )
    jwt_issuer: str = _setting(
        "", _read_address, "Whose JSON Web Tokens are accepted, such as `https://login.host`."
    )
    jwt_audience: str = _setting("", str, "For whom tokens must be: this server's name there.")
    jwt_keys: str = _setting(
        "", _read_address, "Where the issuer's keys are, if not where its configuration says."
    )
    jwt_algorithms: tuple[str, ...] = _setting(
        ("RS256", "ES256"), _read_algorithms, "How tokens may be signed."
    )
    jwt_roles: str = _setting("roles", str, "The claim of a token that lists roles.")
    jwt_tenant: str = _setting(
        "", str, "The claim that names the tenant, which tokens must then have."
    )
    # What `webfoot.cursor()` and the like need to know, in UDFs and outside of servers.
    temp: Path = _setting(  # noqa: RUF009  # it is a field
        Path(os.environ.get("TMPDIR") or "/tmp"),  # noqa: S108  # nosec B108  # each process has its own below it
        lambda text: Path(text).absolute(),
        "Where sessions may write, and attach files from.",
    )
    extensions: Path = _setting(  # noqa: RUF009  # it is a field
        Path("/opt/duckdb_extensions"),
        lambda text: Path(text).absolute(),
        "Where DuckDB's extensions are, if not in packages.",
    )
    extension_downloads: bool = _setting(
        False, _read_bool, "Whether an extension that is in neither may be downloaded."
    )
    secrets: tuple[str, ...] = _setting(
        ("environment", "/run/secrets"),
        _read_secret_places,
        "Where sessions find secrets: `environment`, folders, `ssm:/prefix`, in this order.",
    )

    @property
    def access_folder(self) -> Path | None:
        """Where keys are; None if no folder is for them."""
        if self.access is None and isinstance(self.store, Path):
            return self.store.absolute() / "access"
        return self.access

    @property
    def s3(self) -> S3Access:
        """How the bucket is reached."""
        told = self.s3_endpoint, self.s3_region, self.s3_url_style, self.s3_encryption
        return S3Access(*told)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, **given: Any
    ) -> Settings:
        """Read the settings that the environment has; `given` ones win.

        Raises:
            SettingsError: If a variable has a value that it cannot have, or is no setting.
        """
        values: dict[str, Any] = {}
        known = {PREFIX + item.name.upper(): item for item in fields(cls)}
        for variable, text in environment.items():
            if not variable.startswith(PREFIX) or not text or variable == TOKEN_VARIABLE:
                continue
            if variable not in known:
                names = [name.removeprefix(PREFIX) for name in known]
                near = difflib.get_close_matches(variable.removeprefix(PREFIX), names, 1)
                hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known: {', '.join(known)}"
                raise SettingsError(f"{variable} is no setting; {hint}")
            item = known[variable]
            try:
                values[item.name] = item.metadata["read"](text)
            except ValueError as error:
                raise SettingsError(mask(f"{variable}: {error}")) from error
        return cls(**{**values, **{name: v for name, v in given.items() if v is not None}})
