"""What a server tells Prometheus, read by Prometheus' own parsers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Scrape:
    """All samples of one scrape.

    Args:
        text: What the server said.
        media_type: Of that.
    """

    def __init__(self, text: str, media_type: str) -> None:
        read = read_openmetrics if media_type.startswith("application/openmetrics") else read_text
        self.families = {family.name: family for family in read(text)}
        self.samples = [sample for it in self.families.values() for sample in it.samples]

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {sample.name for sample in self.samples}

    def labels(self, name: str) -> set[str]:
        """All values that a label has anywhere."""
        return {sample.labels[name] for sample in self.samples if name in sample.labels}

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels."""
        wanted = labels.items()
        return sum(s.value for s in self.samples if s.name == name and wanted <= s.labels.items())

    def by(self, name: str, *labels: str) -> Mapping[Any, float]:
        """The samples of a name, added up by some labels."""
        sums: Counter[Any] = Counter()
        for sample in self.samples:
            if sample.name == name:
                values = tuple(sample.labels[label] for label in labels)
                sums[values[0] if len(values) == 1 else values] += sample.value  # type: ignore[assignment]
        return sums


def scrape(url: str, **headers: str) -> Scrape:
    """What the server at `url` tells."""
    answer = httpx.get(f"{url}/metrics", headers=headers).raise_for_status()
    return Scrape(answer.text, answer.headers["content-type"])
