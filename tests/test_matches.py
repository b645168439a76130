"""What a table shows of a log: the same whether its events came one by one or all at once."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.observing.expression import QueryError
from msgviz.widgets._matches import Condition, Matches


@pytest.fixture(scope="module")
def log() -> mv.MessageLog:
    """Forty events on three topics; every third message fails once, every fifth always."""

    async def flow() -> mv.MessageLog:
        log = mv.MessageLog()
        backend = mv.observe(mv.connect("memory://"), log)

        async def receive(message: mv.Message) -> None:
            number = message.json()["number"]
            if number % 5 == 0:
                raise ValueError(f"no multiples of five, such as {number}")
            if number % 3 == 0 and message.attempt == 1:
                raise TimeoutError

        for name in ("orders", "payments", "Ärger"):
            backend.server(name, subscription="billing", max_attempts=2).start(receive)
        for number in range(16):
            topic = backend.topic(("orders", "payments", "Ärger")[number % 3])
            await topic.publish(
                json={"number": number, "word": "Grüße"}, attributes={"Source": f"Web-{number}"}
            )
        await log.settled(10)
        await backend.close()
        return log

    return asyncio.run(flow())


CONDITIONS = [
    Condition(),
    Condition(search="web-1"),
    Condition(search="GRÜßE"),
    Condition(query="attempt > 1"),
    Condition(search="multiples", query="topic == 'orders'"),
]
FACETS: list[dict[str, list[str]]] = [
    {},
    {"outcome": ["error"]},
    {"outcome": ["ok"], "topic": ["orders", "payments"]},
]


def at_once(log: mv.MessageLog, condition: Condition, facets: dict[str, list[str]]) -> Matches:
    matches = Matches(condition, facets)
    matches.add(log.events)
    return matches


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(CONDITIONS), st.sampled_from(FACETS), st.sets(st.integers(0, 40)))
def test_slice_by_slice_is_all_at_once(
    log: mv.MessageLog, condition: Condition, facets: dict[str, list[str]], cuts: set[int]
) -> None:
    events = log.events
    bounds = [0, *sorted(cuts), len(events)]
    matches = Matches(condition, facets)
    for start, end in pairwise(bounds):
        matches.add(events.iloc[start:end])
    whole = at_once(log, condition, facets)
    assert matches.ids.tolist() == whole.ids.tolist()
    assert matches.counts == whole.counts


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(CONDITIONS), st.sampled_from(FACETS), st.sampled_from(FACETS))
def test_choosing_facets_later_is_choosing_them_first(
    log: mv.MessageLog, condition: Condition, first: dict[str, list[str]], then: dict[str, list[str]]
) -> None:
    matches = at_once(log, condition, first)
    matches.choose(then, log.events)
    whole = at_once(log, condition, then)
    assert matches.ids.tolist() == whole.ids.tolist()
    assert {name: +counts for name, counts in matches.counts.items()} == {
        name: +counts for name, counts in whole.counts.items()
    }


def test_events_that_the_log_dropped_are_gone(log: mv.MessageLog) -> None:
    events = log.events
    matches = at_once(log, Condition(), {})
    matches.choose({}, events.iloc[10:])
    assert matches.ids.tolist() == events.index[10:].tolist()


def test_counts_say_what_a_choice_would_leave(log: mv.MessageLog) -> None:
    events = log.events
    matches = at_once(log, Condition(), {"topic": ["orders"]})
    errors = events[(events["topic"] == "orders") & (events["outcome"] == "error")]
    assert matches.counts["outcome"]["error"] == len(errors) > 0
    assert dict(matches.counts["topic"]) == events["topic"].value_counts().to_dict()


@pytest.mark.parametrize(
    ("search", "where"),
    [
        ("WEB-15", "attributes"),
        ("source", "attribute keys"),
        ("GRÜßE", "body"),
        ("ärger", "topic"),
        ("billing", "subscription"),
        ("such as 10", "error"),
        ("timeouterror", "error type"),
    ],
)
def test_search_looks_into(log: mv.MessageLog, search: str, where: str) -> None:
    assert len(at_once(log, Condition(search=search), {}).ids) > 0, where


def test_search_finds_a_message_and_what_it_caused_by_id(log: mv.MessageLog) -> None:
    events = log.events
    message_id = events["message_id"].iloc[-1]
    found = at_once(log, Condition(search=message_id.upper()), {}).ids
    assert set(events.index[events["message_id"] == message_id]) <= set(found.tolist())


def test_search_takes_no_pattern(log: mv.MessageLog) -> None:
    assert len(at_once(log, Condition(search=".*"), {}).ids) == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("atempt > 1", "name 'atempt' is not defined. Columns: time, operation"),
        ("attempt >", "Not an expression"),
        ("(attempt > 1", "not closed"),
        ("size > 'a'", "Invalid comparison"),
        ("size", "not true or false"),
        ("1 > 0", "not true or false"),
        ("a = size > 1", "not true or false"),
        ("@log", "is not defined"),
    ],
)
def test_a_mistake_in_an_expression_is_said_in_words(log: mv.MessageLog, query: str, words: str) -> None:
    with pytest.raises(QueryError, match=words):
        Condition(query=query).check(log.events)


def test_an_unknown_facet_is_an_error() -> None:
    with pytest.raises(ValueError, match="'body' is no facet"):
        Matches(Condition(), {"body": ["x"]})
