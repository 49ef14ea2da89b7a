"""What a benchmark found: a table for people, JSON for programs, a chart for both."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

mpl.use("Agg")
Cell = str | float | int | None


@dataclass(frozen=True)
class Target:
    """A figure the project promises, and what was measured (None: it could not be)."""

    what: str
    kind: Literal["at most", "at least"]
    limit: float
    measured: float | None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Whether the promise holds: met, missed or not measured."""
        if self.measured is None:
            return "not measured"
        high = self.kind == "at most"
        return "met" if (self.measured <= self.limit) == high or self._equal else "missed"

    @property
    def _equal(self) -> bool:
        return self.measured == self.limit


@dataclass(frozen=True)
class Chart:
    """Bars in groups: one group per label, one bar per series."""

    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    unit: str
    log: bool = False


@dataclass
class Report:
    """The outcome of one benchmark."""

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    charts: dict[str, Chart] = field(default_factory=dict)

    def show(self, console: Console) -> None:
        """Print the table, its notes and its targets."""
        table = Table(*self.columns, title=self.title, title_justify="left", title_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(*map(text, row))
        console.print(table)
        for note in self.notes:
            console.print(f"[dim]{note}[/dim]")
        if self.targets:
            console.print(summary([self]))

    def save(self, folder: Path) -> None:
        """Write `NAME.json` and one `NAME.png` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self) | {"machine": machine()}
        content["targets"] = [asdict(goal) | {"verdict": goal.verdict} for goal in self.targets]
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n")
        if self.charts:
            draw(self.title, self.charts).savefig(folder / f"{self.name}.png", dpi=120)


def text(cell: Cell) -> str:
    """A cell as people read it: three figures are enough."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def machine() -> dict[str, str | int | None]:
    """The machine in the words that matter for a figure."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def summary(reports: Sequence[Report]) -> Table:
    """Every target beside what was measured."""
    table = Table("benchmark", "target", "limit", "measured", "", box=None)
    styles = {"met": "green", "missed": "red", "not measured": "yellow"}
    for report in reports:
        for goal in report.targets:
            table.add_row(
                report.name,
                goal.what,
                f"{goal.kind} {text(goal.limit)} {goal.unit}".strip(),
                f"{text(goal.measured)} {goal.unit}".strip(),
                f"[{styles[goal.verdict]}]{goal.verdict}[/]",
            )
    return table


def draw(title: str, charts: dict[str, Chart]) -> Figure:
    """All charts of a report below one another."""
    figure = Figure(figsize=(9, 1 + 3.2 * len(charts)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(charts), 1, squeeze=False)[:, 0]
    for axes, (name, chart) in zip(panels, charts.items(), strict=True):
        width = 0.8 / max(1, len(chart.series))
        for place, (label, values) in enumerate(chart.series.items()):
            positions = [group + (place + 0.5) * width - 0.4 for group in range(len(chart.labels))]
            bars = axes.bar(positions, [value or 0 for value in values], width, label=label)
            axes.bar_label(bars, [text(value) for value in values], fontsize="x-small")
        axes.set_xticks(range(len(chart.labels)), chart.labels, fontsize="small")
        axes.set_title(name, loc="left", fontsize="medium")
        axes.set_ylabel(chart.unit)
        if chart.log:
            known = [value for values in chart.series.values() for value in values if value]
            axes.set_yscale("log")
            axes.set_ylim(bottom=min(known, default=1) / 2)
            axes.set_yticks([], minor=True)
            axes.set_yticks([])
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
