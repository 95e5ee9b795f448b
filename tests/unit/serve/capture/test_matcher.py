"""The operator's patterns, in a real process of their own."""

from collections.abc import Iterator

import pytest

from serve.capture.matcher import Matcher, MatcherFailed


@pytest.fixture
def orders() -> Iterator[Matcher]:
    matcher = Matcher({"order": r"\b[A-Z]{2}-\d+", "name": "(?i)jane"})
    yield matcher
    matcher.close()


def test_each_pattern_is_replaced_by_its_name(orders: Matcher) -> None:
    assert orders.replace(["Jane asks for AB-12", ""]) == ["<name> asks for <order>", ""]
    assert orders.replace(["\u2028 \U0001f600 AB-1\n"]) == ["\u2028 \U0001f600 <order>\n"]


def test_a_backslash_in_a_text_is_no_reference(orders: Matcher) -> None:
    assert orders.replace([r"\1 \g<0> AB-1"]) == [r"\1 \g<0> <order>"]


def test_without_patterns_there_is_no_process() -> None:
    matcher = Matcher({})
    assert matcher.replace(["AB-12"]) == ["AB-12"]
    assert matcher._process is None


def test_a_pattern_that_never_ends_is_ended_and_the_next_text_waits_its_turn() -> None:
    matcher = Matcher({"evil": "(a+)+$"}, pause_seconds=3600.0)
    assert matcher.replace(["aaa b aaa"]) == ["aaa b <evil>"]
    with pytest.raises(MatcherFailed, match="too long"):
        matcher.replace(["a" * 60 + "b"])
    with pytest.raises(MatcherFailed, match="a moment ago"):
        matcher.replace(["fine"])
    assert matcher._process is None


def test_after_the_pause_it_goes_on() -> None:
    matcher = Matcher({"order": "AB"}, pause_seconds=0.0)
    assert matcher.replace(["AB"]) == ["<order>"]
    assert matcher._process is not None
    matcher._process.kill()
    with pytest.raises(MatcherFailed):
        matcher.replace(["AB"])
    assert matcher.replace(["AB"]) == ["<order>"]
    matcher.close()


def test_patterns_that_feed_on_one_another_run_out_of_memory_alone() -> None:
    grow = {f"{'e' * 30}{i}": "e" for i in range(9)}
    matcher = Matcher(grow)
    with pytest.raises(MatcherFailed):
        matcher.replace(["e" * 10_000])
