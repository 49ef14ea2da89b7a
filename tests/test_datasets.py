"""What an operator declares as the lake."""

from __future__ import annotations

from pathlib import Path

import pytest

from webfoot.datasets import Dataset, read_datasets


@pytest.mark.parametrize(
    ("location", "kind", "is_file", "root"),
    [
        ("s3://bucket/taxi/", None, False, "s3://bucket/taxi/"),
        ("s3://bucket/taxi", None, False, "s3://bucket/taxi/"),
        ("s3://bucket/taxi/*/a_*.csv.gz", "csv", False, "s3://bucket/taxi/"),
        ("s3://bucket/a.parquet", "parquet", True, "s3://bucket/"),
        ("https://host/a.parquet?b=c.csv", "parquet", True, "https://host/"),
        ("https://host/a.tsv.zst", "csv", True, "https://host/"),
        ("/data/v1.5", None, False, "/data/v1.5/"),
        ("/data/items.NDJSON", "json", True, "/data/"),
        ("/data/a[12].json", "json", False, "/data/"),
    ],
)
def test_a_place_says_what_it_is(location: str, kind: str | None, is_file: bool, root: str) -> None:
    (dataset,) = read_datasets(f"name={location}")
    assert (dataset.format, dataset.is_file, dataset.root) == (kind, is_file, root)
    assert dataset.is_remote == ("://" in location)


def test_several_are_separated_by_commas_and_paths_are_made_absolute() -> None:
    assert read_datasets(" a = s3://b/c,d/ , e=data/f.csv,g=https://h/i,j.csv ") == (
        Dataset("a", "s3://b/c,d/"),
        Dataset("e", str(Path("data/f.csv").absolute())),
        Dataset("g", "https://h/i,j.csv"),
    )
    assert read_datasets("a=data/")[0].location == f"{Path('data').absolute()}/"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("taxi", "write it like 'taxi=s3"),
        ("taxi=", "write it like"),
        ("my taxi=/a/", "write it like"),
        ("1=/a/", "write it like"),
        ("udfs=/a/", "'udfs' is the name of a table already"),
        ("Datasets=/a/", "is the name of a table already"),
        ("a=/a/, A=/b/", "'A' is the name of a table already"),
        ("a=https://host/folder/", "a URL is that of one file"),
        ("a=https://me:word@host/a.csv", "a URL is that of one file"),
        ("a=https:///a.csv", "a URL is that of one file"),
        ("a=s3:///a/", "like 's3://bucket/folder/'"),
        ("a=s3://b/c?d=e", "like 's3://bucket/folder/'"),
        ("a=ftp://b/c.csv", "a place is a path, s3:// or https://"),
    ],
)
def test_what_can_be_no_dataset_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_datasets(text)
