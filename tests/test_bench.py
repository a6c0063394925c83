"""The benchmark works: each row is measured once with tiny counts; what it says of budgets does not count here."""

import json

import pytest

from tests.bench import __main__ as command
from tests.bench import report
from tests.bench.__main__ import ROWS
from tests.bench.contest import Contest, SideFailed
from tests.bench.rows import SCALES, Budget, Row

FEW = ["round-trip", "ping", "start-ssh", "bundle", "memory", "fan-out"]


@pytest.fixture(scope="module", params=[FEW, pytest.param(list(ROWS), marks=pytest.mark.wide)], ids=["few", "all"])
def measured(request, sshd):
    """(names, rows, what failed): of every kind of row one, or all."""
    return request.param, *command.run(request.param, SCALES["tiny"], sshd, lambda line: None)


@pytest.mark.timeout(120)
def test_rows_are_measured(measured):
    names, rows, failed = measured
    assert failed == {}
    assert {row.name for row in rows} == set(names)
    for row in rows:
        assert all(row.values.values()), row.title
        assert row.title in report.text(row)
        json.dumps(row.as_dict())


def test_the_page_keeps_what_is_written_by_hand(measured, tmp_path):
    page = tmp_path / "performance.md"
    for _ in range(2):
        report.write(report.markdown(measured[1], "quick", "quiet", {"mitogen": "not there"}), page)
        text = page.read_text()
        if "By hand." not in text:
            page.write_text(text + "By hand.\n")
    text = page.read_text()
    assert text.count(report.BEGIN) == text.count("| what |") == text.count("By hand.") == 1
    assert "mitogen could not be measured" in text


def test_a_budget_is_judged_by_the_median_of_ratios():
    row = Row("x", "x", "s", {"contextree": [2.0, 20.0, 3.0], "raw": [1.0, 10.0, 1.0]})
    row.compare("at most", "contextree", "raw", 2).compare("at least", "contextree", "raw", 3, True).compare(
        "?", "raw", "nobody", 1
    )
    assert [(budget.value, budget.kept) for budget in row.budgets] == [(2.0, True), (2.0, False)]
    assert "MISSED" in report.verdict(Budget("x", 2, 1)) and "kept" in report.verdict(Budget("x", 1, 1))


def test_a_peer_that_fails_is_left_out_and_contextree_may_not_fail():
    with Contest() as contest:
        assert contest.take_turns([("execnet", "no_such_thing", {})], 1, 1) == {}
        assert "no_such_thing" in contest.failed["execnet"]
        with pytest.raises(SideFailed, match="no_such_thing"):
            contest.take_turns([("contextree", "no_such_thing", {})], 1, 1)


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (0.000123, "s", "123 µs"),
        (0.0456, "s", "45.6 ms"),
        (12.0, "s", "12.0 s"),
        (75_000, "/s", "75.0 k/s"),
        (1.5e9, "B/s", "1.50 GB/s"),
        (19_900, "B", "19900 B"),
        (5 << 20, "B", "5.00 MiB"),
        (1.25, "trips", "1.25"),
    ],
)
def test_numbers(value, unit, text):
    assert report.number(value, unit) == text
