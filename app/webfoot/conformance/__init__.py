"""Checks whether a Parquet URL, on any server, behaves as the programs that read it need.

`python -m webfoot.conformance URL` prints a table; `check` gives the same findings to a program.
The file is downloaded about twelve times: take a small one.

A required check names the clients that fail without it, or may read mixed bytes; without a
recommended one they are slower or less sure. `CHECKS` has them all, in the order of the table.
fsspec stands for what reads by it too, such as pyarrow; browsers for pages, downloads and caches.

Source:
    RFC 9110 (HTTP), the Fetch standard (CORS), the source of DuckDB-Wasm, and what DuckDB 1.5.5,
    Polars 2.1, fsspec 2026 and pandas 3 did when servers were given these faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from webfoot.conformance import caching, content, cors, ranges, transport
from webfoot.conformance.exchanges import (
    Check,
    Client,
    NotApplicableError,
    Outcome,
    Probe,
    UnusableUrlError,
    Verdict,
    observe,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHECKS", "CLIENTS", "Finding", "UnusableUrlError", "check"]

DUCKDB: tuple[Client, ...] = ("DuckDB", "DuckDB-Wasm")
WEB: tuple[Client, ...] = ("DuckDB-Wasm", "browsers")
RANGED: tuple[Client, ...] = ("DuckDB", "DuckDB-Wasm", "Polars", "fsspec")
CLIENTS: tuple[Client, ...] = (*RANGED, "pandas", "browsers")

CHECKS: tuple[Check, ...] = (
    Check("url.extension", DUCKDB, content.url_extension, required=False),
    Check("head.status", DUCKDB, content.head_status),
    Check("head.body", CLIENTS, content.head_body, required=False),
    Check("head.length", (*DUCKDB, "fsspec"), content.head_length),
    Check("head.range", ("DuckDB-Wasm",), ranges.head_range),
    Check("get.status", DUCKDB, content.get_status),
    Check("get.parquet", CLIENTS, content.get_parquet),
    Check("get.length", CLIENTS, content.get_length),
    Check("get.sized", ("fsspec",), content.get_sized),
    Check("get.type", ("browsers",), content.get_type, required=False),
    Check("get.repeat", RANGED, caching.repeat),
    Check("encoding.unasked", ("DuckDB", "Polars", "fsspec"), content.encoding_unasked),
    Check("encoding.whole", ("fsspec", *WEB), content.encoding_whole, required=False),
    Check("encoding.range", ("fsspec", *WEB), content.encoding_range, required=False),
    Check("etag.strong", ("DuckDB", "browsers"), caching.etag_strong),
    Check("etag.same", ("DuckDB", "browsers"), caching.etag_same),
    Check("last-modified", ("Polars",), caching.last_modified),
    Check("cache-control", ("browsers",), caching.cache_control, required=False),
    Check("range.announced", ("fsspec",), ranges.range_announced),
    Check("range.first", DUCKDB, ranges.range_first),
    Check("range.middle", RANGED, ranges.range_middle),
    Check("range.open", ("browsers",), ranges.range_open),
    Check("range.suffix", ("Polars",), ranges.range_suffix),
    Check("range.long-suffix", ("Polars",), ranges.range_long_suffix),
    Check("range.past-end", ("browsers",), ranges.range_past_end),
    Check("range.unsatisfiable", ("fsspec",), ranges.range_unsatisfiable),
    Check("range.unit", ("browsers",), ranges.range_unit, required=False),
    Check("range.malformed", ("browsers",), ranges.range_malformed, required=False),
    Check("range.multi", ("browsers",), ranges.range_multi, required=False),
    Check("if-range.same", ("browsers",), caching.if_range_match),
    Check("if-range.other", ("browsers",), caching.if_range_other),
    Check("if-none-match.same", ("browsers",), caching.if_none_match),
    Check("if-none-match.forms", ("browsers",), caching.if_none_match_forms),
    Check("if-none-match.other", ("browsers",), caching.if_none_match_other),
    Check("if-modified-since", ("browsers",), caching.if_modified_since, required=False),
    Check("missing.sibling", DUCKDB, content.missing_sibling),
    Check("missing.wal", DUCKDB, content.missing_wal),
    Check("redirect", DUCKDB, transport.redirect),
    Check("query.order", ("DuckDB",), caching.query_order, required=False),
    Check("connection.reuse", CLIENTS, transport.connection_reuse, required=False),
    Check("connection.parallel", (*DUCKDB, "Polars"), transport.connection_parallel),
    Check("cors.origin", WEB, cors.cors_origin),
    Check("cors.null", WEB, cors.cors_null, required=False),
    Check("cors.expose", ("browsers",), cors.cors_expose),
    Check("cors.preflight-range", ("browsers",), cors.preflight_range),
    Check("cors.preflight-authorization", ("browsers",), cors.preflight_authorization),
    Check("cors.errors", WEB, cors.cors_errors),
)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: The check's stable name, such as `range.suffix`.
        clients: Who needs it.
        required: Whether those clients fail without it.
        outcome: `pass`, `fail` (required), `warn` (not required, or only tolerable), or `skip`.
        detail: One sentence: what was seen and, unless it passed, how to mend it.
    """

    name: str
    clients: tuple[Client, ...]
    required: bool
    outcome: Outcome
    detail: str


def check(url: str, client: httpx.Client) -> tuple[Finding, ...]:
    """Check the Parquet file at `url`, and say for every check what was found, in fixed order.

    Args:
        url: The file. Redirects are followed.
        client: Sends the requests. Its headers go with every one: a token, or the `Origin` to use.

    Raises:
        UnusableUrlError: If there is nothing to check: no URL, no answer, or no file.
    """
    probe = observe(url, client)
    return tuple(_findings(probe))


def _findings(probe: Probe) -> Iterator[Finding]:
    for one in CHECKS:
        verdict = _verdict(one, probe)
        outcome = verdict.outcome
        if outcome == "fail" and not one.required:
            outcome = "warn"
        yield Finding(one.name, one.clients, one.required, outcome, verdict.detail)


def _verdict(one: Check, probe: Probe) -> Verdict:
    try:
        return one.run(probe)
    except NotApplicableError as exc:
        return Verdict("skip", f"Not applicable: {exc}.")
    except httpx.HTTPError as exc:
        seen = f"{type(exc).__name__}: {exc}"
        return Verdict("fail", f"The server could not be asked ({seen}): see its log.")
