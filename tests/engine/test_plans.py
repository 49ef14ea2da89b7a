"""What is planned, as the records of runs tell it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from webfoot.access.principal import ANONYMOUS
from webfoot.results import Reach

if TYPE_CHECKING:
    from tests.places import Place


def test_sql_has_a_record_that_says_what_was_asked(place: Place) -> None:
    engine = place.engine
    query = engine.query("SELECT ?", "[1]", 5, Reach(), ANONYMOUS)
    run = asyncio.run(engine.answer(query)).result.run
    record = engine.runs.find(run)
    assert record is not None
    assert (record.udf, record.arguments) == ("", '{"sql": "SELECT ?", "parameters": [1]}')
