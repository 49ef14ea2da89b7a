"""`webfoot.Client`: the UDFs of a server, or of a folder, from Python."""

from __future__ import annotations

import importlib
import json
import math
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import quote

import httpx

from webfoot import __version__
from webfoot.client.arguments import to_plain, to_plain_input, write_query
from webfoot.client.connection import Connection
from webfoot.client.fanout import Fanout
from webfoot.client.jobs import find, submit
from webfoot.client.listing import Listing, read_udf
from webfoot.client.memory import Memory
from webfoot.client.replies import as_webfoot_answers
from webfoot.errors import Error
from webfoot.outcomes import Results, read_inputs
from webfoot.quantities import seconds, size
from webfoot.tables.cutting import cut
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from webfoot.client.jobs import Job
    from webfoot.client.listing import ListedUdf
    from webfoot.outcomes import Input

_CONNECT_S = 10.0
_MOST_REDIRECTS = 10_000
# Servers keep idle connections for a little longer, so that none is reused as it is closed.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60)
# Nobody asks for it by name: what answers is in this process.
_IN_PROCESS = "http://localhost"


class _Host(Protocol):
    """A folder that is served in this process."""

    def transport(self) -> httpx.BaseTransport:
        """What takes requests to it; closing it ends those under way."""

    def take_up(self, job: str) -> None:
        """Go on with the job of that id, if what ran it has ended."""

    def close(self) -> None:
        """Stop serving."""


class Client:
    """The UDFs of a server, or of a folder.

    ```python
    client = webfoot.Client("https://host")
    client.run("delays", month=1).df()
    client.map("delays", range(1, 13)).df()
    ```

    Threads may share it. `with` closes it; what it then waits for is stopped, and jobs go on.

    Args:
        url: The server's address; or a folder of UDFs, to run them in this process.
        token: What the server is shown: `Authorization: Bearer …`.
        timeout: How long to wait for an answer: seconds, "10m", "forever".
        retries: How often a request is made again when the server is busy or cannot be reached.
        memory: How much memory may hold tables that need not be downloaded again: bytes, "128MB".

    Raises:
        ValueError: If `url` is no address and no folder.
    """

    def __init__(
        self,
        url: str | Path,
        token: str | None = None,
        *,
        timeout: float | str = "10m",
        retries: int = 4,
        memory: int | str = "128MB",
    ) -> None:
        self._token = token
        self._timeout_s = seconds(timeout)
        self._retries = retries
        self._host = None if _is_address(url) else _serve(Path(url))
        self._url = _read_address(str(url)) if self._host is None else _IN_PROCESS
        self._shown = str(url)
        # Reading the authorities' certificates takes longer than a request.
        self._trust = httpx.create_ssl_context()
        self._memory = Memory(size(memory))
        self._connection = self._open()
        self._under_way: weakref.WeakSet[Fanout] = weakref.WeakSet()

    def udfs(self) -> Listing:
        """What there is to call."""
        response = self._connection.get("udfs", {"accept": "application/json"})
        with as_webfoot_answers(response):
            return Listing([read_udf(item) for item in response.json()["udfs"]])

    def run(self, name: str, /, **parameters: Any) -> Table:
        """Call a UDF, and wait for its table.

        A result that this client has had is asked after, and downloaded only if it has changed.

        Args:
            name: The UDF.
            parameters: Its parameters; those not given have their defaults. `_limit`, `_offset`,
                `_columns` and `_order` select from the result, as in a URL.

        Raises:
            InvalidParameters: If they are no call of it; nothing ran.
            Unreachable: If there was no answer.
            TypeError: If a parameter cannot be sent.
            Error: Why there is no table; of the class that the server raised.
        """
        plain = to_plain(parameters)
        query = write_query(plain)
        if query is None:
            return self._run_by_post(name, plain)
        path = f"udfs/{quote(name, safe='')}.parquet?{query}"
        known = self._memory.find(path)
        headers = {} if known is None else {"if-none-match": known[0]}
        response = self._connection.get(path, headers)
        if known is not None and response.status_code == httpx.codes.NOT_MODIFIED:
            return known[1]
        with as_webfoot_answers(response):
            table = Table.from_parquet(response.content)
        etag = response.headers.get("etag")
        if etag is not None and "no-store" not in response.headers.get("cache-control", ""):
            self._memory.keep(path, etag, table)
        return table

    def map(
        self,
        name: str,
        inputs: Any,
        *,
        over: str | None = None,
        progress: bool = True,
        concurrency: int = 8,
    ) -> Results:
        """Call a UDF once for each input; begin now, and do not wait.

        Args:
            name: The UDF.
            inputs: Parameters by name for each call, as dicts or as the rows of a table (pandas,
                Polars, Arrow, DuckDB), in which an empty cell means the default; or bare values.
            over: The parameter that bare values are of; may be left out if the UDF has only one,
                or only one that has no default.
            progress: Whether to show a progress bar while something waits for the results.
            concurrency: How many requests are under way at once, each with one or more inputs.

        Raises:
            UdfNotFound: If there is no such UDF; it names the nearest.
            TypeError: If an input is none, or cannot be sent.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is 1 or more, got {concurrency}")
        udf = self._describe(name)
        records = read_inputs(inputs, over or _only_parameter(udf))
        given = dict.fromkeys(key for record in records for key in record)
        known = {item.name: item.default for item in udf.parameters if not item.required}
        defaults = {key: known[key] for key in given if key in known}
        start = partial(self._start, _map_path(name), concurrency, defaults)
        return Results(records, start, progress=name if progress else None)

    def submit(self, name: str, /, **parameters: Any) -> Job:
        """Have the server make a call, and do not wait.

        The job goes on when this client is closed and when its process ends. Only one of a folder,
        which runs in this process, stands still when that ends: it begins anew when another client
        of the folder takes it up by `job`, or when the folder is served.

        Args:
            name: The UDF.
            parameters: Its parameters; those not given have their defaults.

        Raises:
            UdfNotFound: If there is no such UDF; it names the nearest.
            InvalidParameters: If they are no call of it.
            TypeError: If a parameter cannot be sent.
            Unreachable: If there was no answer.
        """
        plain = to_plain(parameters)
        if own := [key for key in plain if key.startswith("_")]:
            raise TypeError(
                f"{', '.join(own)} cannot go with a job, whose result is the whole table; take what"
                " you want from that"
            )
        return submit(self._connection, {"udf": name, "parameters": plain})

    def submit_map(self, name: str, inputs: Any, *, over: str | None = None) -> Job:
        """Have the server call a UDF once for each input, and do not wait; see `submit`.

        The result is one table with the inputs as its first columns and `_error` as its last: an
        input that fails is a row that says why there.

        Args:
            name: The UDF.
            inputs: As for `map`.
            over: As for `map`.

        Raises:
            UdfNotFound: If there is no such UDF; it names the nearest.
            InvalidParameters: If an input makes no call, or there are none.
            TypeError: If an input is none, or cannot be sent.
        """
        records = read_inputs(inputs, over or _only_parameter(self._describe(name)))
        plain = [to_plain_input(index, given) for index, given in enumerate(records)]
        asked = {"udf": name, "inputs": plain, "partial": "allow"}
        return submit(self._connection, asked)

    def job(self, id: str) -> Job:  # noqa: A002  # it is one
        """Take up a job again, by whomever it was made.

        Args:
            id: Its `Job.id`.

        Raises:
            JobNotFound: If there is none, or it ended too long ago.
        """
        if self._host is not None:
            self._host.take_up(id)
        return find(self._connection, id)

    def attach(self, con: duckdb.DuckDBPyConnection, name: str = "udfs") -> None:
        """Make every UDF a table function in DuckDB: `FROM udfs.delays(month := 1)`.

        Args:
            con: The connection.
            name: What the catalog is called there.

        Raises:
            ValueError: If this client is of a folder, which has no address.
            duckdb.Error: If the server has no catalog, or cannot be reached.
        """
        if self._host is not None:
            raise ValueError(
                f"DuckDB reads addresses, and {self._shown} is a folder in this process; start"
                f" `webfoot serve {self._shown}`, and attach that"
            )
        from webfoot.client.attachment import attach  # noqa: PLC0415  # DuckDB, for who has one

        attach(con, self._url, name, self._token)

    def close(self) -> None:
        """Stop what this client waits for, and close the connections; jobs go on."""
        for fanout in list(self._under_way):
            fanout.cancel()
        self._connection.cut_off()
        if self._host is not None:
            self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._shown}>"

    def _open(self) -> Connection:
        """A connection, or rather a pool of them."""
        wait_s = None if math.isinf(self._timeout_s) else self._timeout_s
        headers = {"user-agent": f"webfoot/{__version__}"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        http = httpx.Client(
            base_url=self._url,
            headers=headers,
            timeout=httpx.Timeout(wait_s, connect=_CONNECT_S, pool=None),
            limits=_LIMITS,
            verify=self._trust,
            follow_redirects=True,
            # A long run sends who waits on again and again.
            max_redirects=_MOST_REDIRECTS,
            transport=None if self._host is None else self._host.transport(),
        )
        return Connection(http, self._retries)

    def _run_by_post(self, name: str, plain: Input) -> Table:
        """Make a call that no URL can say, as a fan-out of one."""
        own = [key for key in plain if key.startswith("_")]
        if own:
            raise TypeError(
                f"{', '.join(own)} cannot go with a None, an empty text or a very long value, which"
                " no URL can say; take what you want from the whole table"
            )
        body = json.dumps([plain], ensure_ascii=False).encode()
        response = self._connection.post(_map_path(name), body)
        with as_webfoot_answers(response):
            (piece,) = cut(response.content)
        if piece.table is None:
            raise Error.from_problem(piece.problem or {})
        return piece.table

    def _describe(self, name: str) -> ListedUdf:
        path = f"udfs/{quote(name, safe='')}"
        response = self._connection.get(path, {"accept": "application/json"})
        with as_webfoot_answers(response):
            return read_udf(response.json())

    def _start(
        self, path: str, concurrency: int, defaults: Input, inputs: Sequence[Input]
    ) -> Fanout:
        fanout = Fanout(self._open(), path, inputs, concurrency=concurrency, defaults=defaults)
        self._under_way.add(fanout)
        return fanout


def _map_path(name: str) -> str:
    return f"udfs/{quote(name, safe='')}/map?_partial=allow"


def _only_parameter(udf: ListedUdf) -> str | None:
    required = [parameter.name for parameter in udf.parameters if parameter.required]
    names = required or [parameter.name for parameter in udf.parameters]
    return names[0] if len(names) == 1 else None


def _is_address(url: str | Path) -> bool:
    return isinstance(url, str) and "://" in url


def _read_address(text: str) -> str:
    """The address of a server, without a slash at its end."""
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise ValueError(f"{text!r} is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{text!r} is no address; write it like https://host or a folder's path")
    if url.query or url.fragment:
        raise ValueError(f"{text!r} is more than the address of a server; leave out what follows ?")
    return str(url).rstrip("/")


def _serve(folder: Path) -> _Host:
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {str(folder)!r}; the address of a server begins with http:// or"
            f" https://, like http://{folder}"
        )
    # By name: a server in this process is made of everything else, which this package must not be.
    host: _Host = importlib.import_module("webfoot.in_process").Host(folder)
    return host
