import pytest

from nontrivial.data.excerpt import excerpt


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2 (and 1 more)"), (9, "0, 1, 2 (and 6 more)")],
)
def test_a_message_says_how_many_more_there_are(number, text):
    assert excerpt(range(number)) == text
