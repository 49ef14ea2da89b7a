"""A docstring becomes the page of its UDF."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot.docstrings import Documentation, document


def documented(text: str | None) -> Documentation:
    """What a function with this docstring says."""

    def function() -> None: ...

    function.__doc__ = text
    return document(function)


FULL = """Stations within a distance of a point, nearest first.

    The distance is on the **sphere**.

    - one
    - two

    Args:
        lon: Longitude in degrees east,
            0 to 360.
        radius_m (float, optional): Search radius: at most 50,000.

    Returns:
        One row per station: `id` text.
        Empty when there is none.

    Raises:
        InvalidParameters: If `radius_m` is above 50,000.

    Note:
        Slow on Mondays.

    Source:
        Dataset, provider.
    """


def test_a_docstring_is_taken_apart() -> None:
    assert documented(FULL) == Documentation(
        title="Stations within a distance of a point, nearest first.",
        description=(
            "The distance is on the **sphere**.\n\n- one\n- two\n\n"
            "Note: Slow on Mondays.\n\nSource: Dataset, provider."
        ),
        parameters={
            "lon": "Longitude in degrees east,\n0 to 360.",
            "radius_m": "Search radius: at most 50,000.",
        },
        returns="One row per station: `id` text.\nEmpty when there is none.",
    )


def test_the_first_line_may_stand_below_the_quotes() -> None:
    assert documented("\n    " + FULL).title == documented(FULL).title


@pytest.mark.parametrize("text", [None, "", "   \n  "])
def test_no_docstring_says_nothing(text: str | None) -> None:
    assert documented(text) == Documentation("", "", {}, "")


def test_a_summary_that_wraps_is_one_title() -> None:
    found = documented("Stations within a distance\n    of a point.\n\n    More.\n")
    assert (found.title, found.description) == ("Stations within a distance of a point.", "More.")


@pytest.mark.parametrize(
    "section",
    ["Example", "Examples", "License", "Limits", "Notes", "References", "See Also", "Warning"],
)
def test_sections_of_prose_are_description(section: str) -> None:
    found = documented(f"A.\n\n    Args:\n        x: Help.\n\n    {section}:\n        Words.\n")
    assert found.parameters == {"x": "Help."}
    assert found.description == f"{section.capitalize()}: Words."


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("A.\n\n    Args:\n        no colon here\n", "Args:\n    no colon here"),
        ("A.\n\n    Args:\n    x: not indented\n", "Args:\nx: not indented"),
        ("A.\n\n    Args:\n", "Args:"),
    ],
)
def test_a_docstring_of_another_style_is_all_description(text: str, description: str) -> None:
    assert documented(text) == Documentation("A.", description, {}, "")


def test_free_text_under_raises_is_no_fault() -> None:
    found = documented("A.\n\n    Args:\n        x: Help.\n\n    Raises:\n        Sometimes.\n")
    assert found == Documentation("A.", "", {"x": "Help."}, "")


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["A.", "Args:", "    x: y", "    x", "Returns:", "Raises:", "Note:", "", ":"]
        )
    ).map("\n".join)
)
def test_no_docstring_takes_its_udf_down(text: str) -> None:
    assert isinstance(documented(text), Documentation)
