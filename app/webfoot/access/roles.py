"""What roles may do: data, and what is not said, nobody may."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import reduce
from typing import TYPE_CHECKING, Any

from webfoot.access.throttling import LIMIT_NAMES, Limits
from webfoot.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

# What may be done besides reading results: SQL over them, jobs, share links, to know how much goes
# on in the server, and to know all of it.
RIGHTS = ("sql", "jobs", "share", "metrics", "admin")
_ALL = ("*",)
# A Python name, and what `fnmatch` reads in one.
_PATTERN = re.compile(r"[\w*?\[\]!-]+")
_ROLE_FIELDS = frozenset({"udfs", "formats", "may", *LIMIT_NAMES})


@dataclass(frozen=True)
class Role:
    """What somebody of this role may do.

    Args:
        udfs: Patterns of the UDFs that may be called.
        formats: The formats in which their results may be read; `*` for all.
        may: What else: some of `RIGHTS`.
        limits: How much of it.
    """

    udfs: tuple[str, ...] = ()
    formats: tuple[str, ...] = _ALL
    may: tuple[str, ...] = ()
    limits: Limits = Limits()  # noqa: RUF009  # it is frozen, too

    def reads(self, udf: str, extension: str) -> bool:
        """Whether the results of `udf` may be read in this format."""
        return matches(udf, self.udfs) and matches(extension, self.formats)


BUILT_IN: Mapping[str, Role] = {
    "admin": Role(_ALL, may=RIGHTS),
    "analyst": Role(_ALL, may=("sql", "jobs", "share")),
    "viewer": Role(_ALL),
}


@dataclass(frozen=True)
class Rights:
    """What one asker may do: what any of its roles may, within what it was given itself.

    Args:
        roles: The roles.
        udfs: Patterns of UDFs, beyond which no role helps.
        formats: Formats, likewise.
    """

    roles: tuple[Role, ...] = ()
    udfs: tuple[str, ...] = _ALL
    formats: tuple[str, ...] = _ALL

    @property
    def unbounded(self) -> bool:
        """Whether every UDF may be called that there is, or will be."""
        return self.udfs == _ALL and any("*" in role.udfs for role in self.roles)

    def sees(self, udf: str) -> bool:
        """Whether a UDF may be called."""
        allowed = any(matches(udf, role.udfs) for role in self.roles)
        return allowed and matches(udf, self.udfs)

    def reads(self, udf: str, extension: str) -> bool:
        """Whether the results of `udf` may be read in this format."""
        for role in self.roles:
            if role.reads(udf, extension):
                return matches(udf, self.udfs) and matches(extension, self.formats)
        return False

    def has(self, right: str) -> bool:
        """Whether one of `RIGHTS` is there."""
        return any(right in role.may for role in self.roles)

    @property
    def limits(self) -> Limits:
        """How much of it: the widest that a role allows."""
        limits = [role.limits for role in self.roles]
        return reduce(Limits.or_more, limits) if limits else Limits()


@dataclass(frozen=True)
class Policy:
    """What an operator has decided.

    Args:
        roles: The roles that there are, by name.
        udf_limits: How much may be asked of each UDF by all together, by patterns; the first that
            matches counts.
    """

    roles: Mapping[str, Role] = field(default_factory=lambda: BUILT_IN)
    udf_limits: tuple[tuple[str, Limits], ...] = ()

    def rights(
        self, names: Iterable[str], udfs: tuple[str, ...] = _ALL, formats: tuple[str, ...] = _ALL
    ) -> Rights:
        """What the roles of these names may do; those that are not known, nothing."""
        roles = tuple(self.roles[name] for name in names if name in self.roles)
        return Rights(roles, udfs, formats)

    def limits_of(self, udf: str) -> Limits | None:
        """How much may be asked of a UDF."""
        return next(
            (limits for pattern, limits in self.udf_limits if fnmatchcase(udf, pattern)), None
        )


def matches(name: str, patterns: Collection[str]) -> bool:
    """Whether one of `patterns`, such as `sales_*`, stands for `name`."""
    return "*" in patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns of UDFs, each of which some name could be like.

    Raises:
        ValueError: If one is like none.
    """
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(
                "a pattern of UDFs is a name such as 'delays', with * and ? for any letters, got"
                f" {pattern!r}; several are several patterns"
            )
    return tuple(patterns)


def read_policy(path: Path | None) -> Policy:
    """The policy of a TOML file, over the roles that there always are; see the README.

    Raises:
        SettingsError: If it cannot be read; it says where, and what would be right.
    """
    if path is None:
        return Policy()
    import tomllib  # noqa: PLC0415  # 3 ms, which a start on Lambda goes without

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        _refuse_unknown(document, {"roles", "udfs"}, "the file")
        roles = {
            name: _read_role(f"roles.{name}", _table(f"roles.{name}", plain))
            for name, plain in _table("roles", document.get("roles", {})).items()
        }
        limits = tuple(
            (pattern, _read_limits(f"udfs.{pattern}", _table(f"udfs.{pattern}", plain)))
            for pattern, plain in _table("udfs", document.get("udfs", {})).items()
        )
    except OSError as error:
        raise SettingsError(f"WEBFOOT_ROLES: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"WEBFOOT_ROLES: {path}: {error}") from error
    return Policy({**BUILT_IN, **roles}, limits)


def _read_role(where: str, plain: Mapping[str, Any]) -> Role:
    _refuse_unknown(plain, _ROLE_FIELDS, where)
    may = _words(where, "may", plain.get("may", ()))
    for right in may:
        if right not in RIGHTS:
            raise ValueError(f"{where}: may is some of {', '.join(RIGHTS)}, got {right!r}")
    return Role(
        udfs=_patterns(where, _words(where, "udfs", plain.get("udfs", ()))),
        formats=_words(where, "formats", plain.get("formats", _ALL)),
        may=may,
        limits=_limits(where, plain),
    )


def _read_limits(where: str, plain: Mapping[str, Any]) -> Limits:
    _refuse_unknown(plain, frozenset(LIMIT_NAMES), where)
    return _limits(where, plain)


def _limits(where: str, plain: Mapping[str, Any]) -> Limits:
    try:
        return Limits.from_plain(plain)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _table(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is a table, got {value!r}")  # noqa: TRY004  # it is a file's
    return value


def _words(where: str, name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{where}: {name} is a list of texts, got {value!r}")
    return tuple(value)


def _patterns(where: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return check_patterns(patterns)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _refuse_unknown(plain: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for name in plain:
        if name not in known:
            raise ValueError(f"{where} has {name!r}; known: {', '.join(sorted(known))}")
