"""DuckDB prints the message of a database that cannot be attached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from webfoot.database.unattachable import unattachable_database

if TYPE_CHECKING:
    from pathlib import Path


def attached(folder: Path, message: str) -> str:
    path = folder / "told.duckdb"
    path.write_bytes(unattachable_database(message))
    with duckdb.connect() as con, pytest.raises(duckdb.CatalogException) as raised:
        con.execute(f"ATTACH '{path}' AS told (READ_ONLY)")
    return str(raised.value)


@pytest.mark.parametrize(
    "message",
    [
        "a key is needed",
        'it\'s "quoted" and has\ntwo lines é 🦆 \\ %s {0}',
        "x",
        "",
        "a" * 300,
        *("b" * length for length in range(70, 80)),
    ],
)
def test_the_message_stands_alone(tmp_path: Path, message: str) -> None:
    assert f'"\n\n  {message}'.rstrip() in attached(tmp_path, message)


def test_what_is_too_long_is_cut_between_letters(tmp_path: Path) -> None:
    told = attached(tmp_path, "🦆" * 1000)
    assert 80 < told.count("🦆") < 100
    assert "�" not in told


def test_half_a_letter_and_nothing_are_letters_too(tmp_path: Path) -> None:
    assert "a?b�c" in attached(tmp_path, "a\ud800b\0c")


def test_no_reader_takes_it_for_a_database_without_tables(tmp_path: Path) -> None:
    path = tmp_path / "told.duckdb"
    path.write_bytes(unattachable_database("told"))
    with pytest.raises(duckdb.CatalogException):
        duckdb.connect(path, read_only=True)
