"""A real PostgreSQL of its own, on a free port of loopback, for the tests that need one."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSTALLER = Path(__file__).parent / "database" / "install-postgres"


@dataclass(frozen=True)
class Postgres:
    """A server that runs."""

    port: int
    user: str
    password: str
    log: Path

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def words(self) -> str:
        return (
            f"host=127.0.0.1 port={self.port} dbname=postgres user={self.user}"
            f" password='{self.password}'"
        )


@contextlib.contextmanager
def postgres(folder: Path, password: str) -> Iterator[Postgres]:
    """A server with an empty database and a user who needs a password, until the `with` ends."""
    data, passwords, log = folder / "data", folder / "password", folder / "log"
    folder.mkdir(parents=True, exist_ok=True)
    passwords.write_text(password)
    if os.getuid() == 0:  # It refuses root.
        nobody = pwd.getpwnam("postgres" if _has_user("postgres") else "nobody")
        for path in (folder, passwords):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for parent in folder.parents:  # pytest's own are for their owner only.
            with contextlib.suppress(PermissionError):
                if not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        user: str | None = nobody.pw_name
    else:
        user = None
    _run(user, "initdb", "-D", data, "-U", "reader", "-A", "scram-sha-256", f"--pwfile={passwords}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Its socket's path must be short, and nobody uses it.
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    _run(
        user,
        "pg_ctl",
        "-D",
        data,
        "-l",
        log,
        "-w",
        "-o",
        f"{options} -c log_statement=all",
        "start",
    )
    try:
        yield Postgres(port, "reader", password, log)
    finally:
        _run(user, "pg_ctl", "-D", data, "-m", "immediate", "-w", "-t", "180", "stop")


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _run(user: str | None, program: str, *arguments: str | Path) -> None:
    places = os.pathsep.join(
        [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    )
    found = shutil.which(program, path=places)
    if found is None:
        raise FileNotFoundError(f"there is no {program} here; run {_INSTALLER}")
    done = subprocess.run(
        [found, *map(str, arguments)],
        user=user,
        group=None if user is None else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else [],
        cwd="/",
        stdin=subprocess.DEVNULL,
        # Not pipes: the server would keep them open for as long as it runs.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        log = next((Path(a) for a in arguments if str(a).endswith("log")), None)
        said = log.read_text() if log and log.exists() else ""
        raise RuntimeError(f"{program} ended with {done.returncode}: {said}")
