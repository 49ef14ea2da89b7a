"""Every error that Webfoot raises, and its one shape on the wire (RFC 9457).

Error                        the base; `except webfoot.Error` catches every one
├── Unauthorized        401  nobody has said who asks, or not so that it can be believed
├── Forbidden           403  who asks may not do that
├── UdfNotFound         404  no UDF of that name
├── UnsupportedFormat   404  no such extension
├── JobNotFound         404  no job of that id
├── ResultGone          410  a job's result was removed from the store since
├── Conflict            409  the idempotency key is another job's
├── InvalidParameters   422  the parameters, not the UDF, are at fault; nothing ran
├── QueryRefused        403  the SQL asks for what SQL may not have here; nothing ran
├── TooManyRequests     429  who asks may not ask for more right now
├── ServerBusy          503  the queue is full; nothing ran
├── StillRunning        503  the run takes longer than a spreadsheet waits; it goes on
├── StorageFull         507  the store's disk is full
├── ResultTooLarge      413  the platform carries no answer of that size
├── DeadlineReached     504  the platform waits no longer for an answer
├── Unreachable         503  the server gave no answer; raised by clients only
├── UdfUnavailable      500  the UDF's file could not be loaded
└── RunError            500  a run began and brought no table
    ├── UdfFailed       500  the UDF raised
    ├── InvalidResult   500  the UDF returned something that is no table
    ├── MemoryExceeded  500  the UDF used more memory than it may
    │   └── QueryMemoryExceeded 500  the query did
    ├── QueryFailed     422  the SQL is wrong, or wrong for these rows
    ├── QueryTooLarge   413  the query has more rows, or bytes, than one may
    ├── DatasetUnavailable 502  a dataset of the lake cannot be read
    ├── UdfCrashed      500  the UDF took its process down
    │   └── QueryCrashed 500  the query did
    ├── FanoutFailed    500  an input of a fan-out failed
    ├── FanoutLimit     500  UDFs call UDFs too often, too deep, or in a circle
    ├── RunCancelled    503  nobody waited for the run any more, or the server stopped
    └── UdfTimeout      504  the UDF ran longer than it may
        └── QueryTimeout 504  the query did

DefinitionError (TypeError)  the author's signature or options are wrong; raised at import only
SettingsError (ValueError)   a setting has a value that it cannot have; raised at start only
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from webfoot.masking import mask, mask_values
from webfoot.quantities import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from webfoot.results import Usage

# Of an input, so much is told in a message.
_MOST_TOLD = 1000


class Error(Exception):
    """What every error of Webfoot is.

    Args:
        detail: What happened, with the value, and what to do: one sentence.
        udf: The UDF that was called.
        run: The run in which it happened.
        traceback: The author's own frames; shown in debug mode only.

    Attributes:
        usage: What the run took that failed with it; None if nothing ran, or nobody measured.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Webfoot failed"
    # Attributes beyond `detail` that travel with the error: arguments of the class by those names.
    fields: ClassVar[tuple[str, ...]] = ()

    classes: ClassVar[dict[str, type[Error]]] = {}

    def __init_subclass__(cls) -> None:
        """File the class under its code, so that a client can raise what the server raised."""
        Error.classes[cls.code] = cls

    def __init__(
        self,
        detail: str,
        *,
        udf: str | None = None,
        run: str | None = None,
        traceback: str | None = None,
    ) -> None:
        # It may be told to anybody, and quote anything.
        detail = mask(detail)
        super().__init__(detail)
        self.detail = detail
        self.udf = udf
        self.run = run
        self.traceback = traceback
        self.usage: Usage | None = None

    def problem(self) -> dict[str, Any]:
        """The error as a problem document, without the traceback."""
        problem: dict[str, Any] = {
            "type": f"urn:webfoot:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        names = ("udf", "run", *self.fields)
        extra = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return problem | extra

    @staticmethod
    def from_problem(problem: Mapping[str, Any]) -> Error:
        """Rebuild the error that `problem` came from, as its own class."""
        cls = Error.classes.get(str(problem.get("code")), Error)
        given = {name: problem[name] for name in cls.fields if name in problem}
        error = cls(str(problem.get("detail", "")), **given)
        error.udf, error.run = problem.get("udf"), problem.get("run")
        error.traceback = problem.get("traceback")
        return error


class Unauthorized(Error):
    """Nobody has said who asks, or not in a way that can be believed."""

    status, code, title = 401, "unauthorized", "A key is needed"


class Forbidden(Error):
    """Who asks is known, and may not do that."""

    status, code, title = 403, "forbidden", "That is not allowed"


class TooManyRequests(Error):
    """Who asks may not ask for more right now.

    Args:
        detail: What the limit is.
        retry_after_s: When to try again, in seconds.
    """

    status, code, title = 429, "too-many-requests", "Too many requests"
    fields = ("retry_after_s",)

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UdfNotFound(Error):
    """There is no UDF of that name."""

    status, code, title = 404, "udf-not-found", "No such UDF"


class UnsupportedFormat(Error):
    """A result has no such format."""

    status, code, title = 404, "unsupported-format", "No such format"


class UdfUnavailable(Error):
    """The UDF exists, but its file could not be loaded."""

    code, title = "udf-unavailable", "The UDF could not be loaded"


class InvalidParameters(Error):
    """The parameters are at fault; nothing ran.

    A UDF may raise it too, for what its signature cannot say:
    `raise InvalidParameters("min_elevation must be below max, got 900 > 800")`.

    Args:
        detail: What is wrong, with the value.
        errors: One record per parameter at fault: `parameter`, `message`, `value`.
    """

    status, code, title = 422, "invalid-parameters", "Invalid parameters"
    fields = ("errors",)

    def __init__(self, detail: str, *, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(detail)
        self.errors = [dict(error) for error in errors]


class QueryRefused(Error):
    """The SQL asks for what SQL may not have here: a file, a setting, a change; nothing ran."""

    status, code, title = 403, "query-refused", "The query is not allowed"


class JobNotFound(Error):
    """There is no job of that id, or it ended too long ago."""

    status, code, title = 404, "job-not-found", "There is no such job"


class ResultGone(Error):
    """A job's result has been removed from the store since."""

    status, code, title = 410, "result-gone", "The result is gone"


class StillRunning(Error):
    """A run takes longer than whoever asked can wait; it goes on."""

    status, code, title = 503, "still-running", "Still running"


class Conflict(Error):
    """What is asked for does not go together with what there is."""

    status, code, title = 409, "conflict", "That is something else already"


class ServerBusy(Error):
    """The queue is full; nothing ran.

    Args:
        detail: How full it is.
        retry_after_s: When to try again, in seconds.
    """

    status, code, title = 503, "server-busy", "The server is busy"
    fields = ("retry_after_s",)

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class StorageFull(Error):
    """The disk of the store is full."""

    status, code, title = 507, "storage-full", "The store is full"


class ResultTooLarge(Error):
    """The platform before the server carries no answer of that size.

    Args:
        detail: How large it is, and what is allowed.
        limit_bytes: The limit.
    """

    status, code, title = 413, "result-too-large", "The result is too large"
    fields = ("limit_bytes",)

    def __init__(self, detail: str, *, limit_bytes: int = 0) -> None:
        super().__init__(detail)
        self.limit_bytes = limit_bytes


class DeadlineReached(Error):
    """The platform before the server waits no longer for an answer; a run may go on.

    Args:
        detail: How long it waited.
        limit_s: That limit in seconds.
    """

    status, code, title = 504, "deadline-reached", "The answer took too long"
    fields = ("limit_s",)

    def __init__(self, detail: str, *, limit_s: float = 0) -> None:
        super().__init__(detail)
        self.limit_s = limit_s


class Unreachable(Error):
    """A client got no answer: the address is wrong, nothing runs there, or the connection broke."""

    status, code, title = 503, "unreachable", "The server gave no answer"


class RunError(Error):
    """A run began and brought no table."""

    code, title = "run-error", "The run failed"


class UdfFailed(RunError):
    """The UDF raised an exception; `detail` is its type and message."""

    code, title = "udf-failed", "The UDF failed"


class InvalidResult(RunError):
    """The UDF returned something that cannot be kept as a table without loss."""

    code, title = "invalid-result", "The UDF returned no usable table"


class MemoryExceeded(RunError):
    """The UDF used more memory than it may.

    Args:
        detail: What was used and what is allowed.
        limit_bytes: The limit.
    """

    code, title = "memory-exceeded", "The UDF used too much memory"
    fields = ("limit_bytes",)

    def __init__(self, detail: str, *, limit_bytes: int = 0) -> None:
        super().__init__(detail)
        self.limit_bytes = limit_bytes


class QueryMemoryExceeded(MemoryExceeded):
    """A query used more memory than it may; see `MemoryExceeded`."""

    code, title = "query-memory-exceeded", "The query used too much memory"


class QueryFailed(RunError):
    """DuckDB cannot run the SQL: `detail` is what it says, or what a UDF says that it calls."""

    status, code, title = 422, "query-failed", "The query failed"


class QueryTooLarge(RunError):
    """A query has more rows, or more bytes, than one may have."""

    status, code, title = 413, "query-too-large", "The query has too many rows"


class DatasetUnavailable(RunError):
    """A dataset of the lake cannot be read; why is for whoever runs the server."""

    status, code, title = 502, "dataset-unavailable", "A dataset cannot be read"


class UdfCrashed(RunError):
    """The UDF took its process down."""

    code, title = "udf-crashed", "The UDF crashed"


class QueryCrashed(UdfCrashed):
    """A query took its process down; see `UdfCrashed`."""

    code, title = "query-crashed", "The query crashed"


class FanoutFailed(RunError):
    """An input of a fan-out failed, and with it the whole, as nobody allowed partial results.

    Args:
        detail: Which input failed, and why.
        failures: One record per failed input that is known of: its `index`, the `input`, and the
            `problem` document of its error. The rest was not run.
    """

    code, title = "fanout-failed", "An input of the fan-out failed"
    fields = ("failures",)

    def __init__(self, detail: str, *, failures: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(detail)
        self.failures = [mask_values(dict(failure)) for failure in failures]


class FanoutLimit(RunError):
    """UDFs call UDFs more often than one request may, too deep, or in a circle."""

    code, title = "fanout-limit", "Too many calls, or too deep"


class RunCancelled(RunError):
    """The run was stopped before it had an answer."""

    status, code, title = 503, "run-cancelled", "The run was cancelled"


class UdfTimeout(RunError):
    """The UDF ran longer than it may.

    Args:
        detail: How long that is.
        timeout_s: The limit in seconds.
    """

    status, code, title = 504, "udf-timeout", "The UDF took too long"
    fields = ("timeout_s",)

    def __init__(self, detail: str, *, timeout_s: float = 0) -> None:
        super().__init__(detail)
        self.timeout_s = timeout_s


class QueryTimeout(UdfTimeout):
    """A query ran longer than it may; see `UdfTimeout`."""

    code, title = "query-timeout", "The query took too long"


def input_failed(index: int, given: Mapping[str, Any], error: Error, *, among: int) -> Error:
    """What a fan-out fails with when one of its inputs does: `FanoutFailed`.

    What was no fault of the input stays what it is, so that it is tried again, or not remembered.

    Args:
        index: The input's place, from 0.
        given: The input.
        error: Why it failed.
        among: How many inputs there are.
    """
    text = shorten(", ".join(f"{name}={value!r}" for name, value in given.items()), _MOST_TOLD)
    where = f"input {index} of {among} ({text})"
    if isinstance(error, FanoutLimit | RunCancelled | ServerBusy | StorageFull):
        own = {"detail": f"{where}: {error.detail}", "udf": None, "run": None}
        return Error.from_problem(error.problem() | own)
    failure = {"index": index, "input": dict(given), "problem": error.problem()}
    return FanoutFailed(
        f"{where}: {error.detail}; allow partial results to have the others",
        failures=[failure],
    )


class DefinitionError(TypeError):
    """A UDF's signature or options are wrong; raised when its file is imported."""


class SettingsError(ValueError):
    """A setting has a value that it cannot have; raised at start."""
