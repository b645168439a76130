"""What of Kafka's backend needs no broker: offsets to commit, headers, names and options."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import msgviz as mv

pytest.importorskip("aiokafka")

from msgviz.backends.kafka import KafkaBackend
from msgviz.backends.kafka.offsets import OffsetTracker
from msgviz.backends.kafka.records import read_retry, retry_headers, size, to_headers, to_message

offsets = st.lists(st.integers(0, 200), unique=True, min_size=1, max_size=40).map(sorted)


@given(offsets, st.randoms(use_true_random=False), st.data())
def test_what_is_committed_never_passes_an_unfinished_message(
    fetched: list[int], random: Any, data: st.DataObject
) -> None:
    tracker: OffsetTracker[int] = OffsetTracker(fetched[0])
    waiting, open_, done = list(fetched), [], set()
    last = tracker.committable
    while waiting or open_:
        if waiting and (not open_ or data.draw(st.booleans())):
            offset = waiting.pop(0)
            tracker.add(offset, offset)
            open_.append(offset)
        else:
            offset = open_.pop(random.randrange(len(open_)))
            tracker.finish(offset)
            done.add(offset)
        now = tracker.committable
        assert now >= last
        assert all(offset >= now for offset in open_)
        assert all(offset < now or any(o < offset for o in open_) for offset in done)
        assert tracker.overtaken() == [o for o in open_ if done and o < max(done)]
        last = now
    assert tracker.committable == fetched[-1] + 1


@given(offsets, st.integers(0, 210), st.sets(st.integers(0, 200)))
def test_what_somebody_else_committed_is_not_taken_back(
    fetched: list[int], committed: int, finished: set[int]
) -> None:
    tracker: OffsetTracker[int] = OffsetTracker(fetched[0])
    for offset in fetched:
        tracker.add(offset, offset)
    for offset in finished:
        tracker.finish(offset)  # of which some were never fetched
    before = tracker.committable
    tracker.advance(committed)
    left = [o for o in fetched if o >= committed and o not in finished]
    assert list(tracker.unfinished) == left
    assert tracker.position == max(committed, fetched[-1] + 1)
    assert max(before, committed) <= tracker.committable == (left[0] if left else tracker.position)


def test_an_offset_is_fetched_once() -> None:
    tracker: OffsetTracker[str] = OffsetTracker(5)
    tracker.add(5, "five")
    with pytest.raises(ValueError, match="6 comes next"):
        tracker.add(5, "five again")
    tracker.finish(5)
    tracker.finish(5)
    tracker.finish(99)
    assert tracker.committable == 6


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())), st.integers(1, 10**6))
def test_a_retry_gives_back_the_headers_it_came_with(
    headers: list[tuple[str, bytes | None]], attempt: int
) -> None:
    left, again, due = read_retry(retry_headers(headers, attempt, 5.0))
    assert (list(left), again) == (headers, attempt)
    assert 4 < due - time.time() < 6


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Msgviz-Attempt", "Msgviz-Not-Before", "A"]),
            st.none() | st.binary() | st.sampled_from([b"0", b"-1", b"1e3", b"9" * 40, "²".encode()]),
        )
    )
)
def test_headers_of_others_never_break_a_retry(headers: list[tuple[str, bytes | None]]) -> None:
    _, attempt, due = read_retry(headers)
    assert attempt >= 1
    assert 0 <= due < 10**13


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(TEXT, st.lists(TEXT, min_size=1)), st.binary())
def test_attributes_are_headers_and_back(attributes: dict[str, list[str]], body: bytes) -> None:
    message = mv.Message(body, attributes)
    headers = to_headers(message.freeze())
    assert len(headers) == sum(map(len, message.attributes.to_dict().values()))
    record = SimpleNamespace(key=None, value=body)
    assert to_message(record, headers, "Kafka-Key") == message
    assert size(body, None, headers) > len(body) + sum(len(k.encode()) + len(v or b"") for k, v in headers)


def test_an_attribute_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        to_headers(mv.Message(b"", {"K": "\ud800"}).freeze())


@pytest.mark.parametrize("name", ["a b", "ä", "a/b", ".", "..", "x" * 250, "a\n"])
async def test_names_that_kafka_does_not_have(name: str) -> None:
    backend = mv.connect("kafka://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"kafka: .*(letters, digits|249)"):
        backend.topic(name)
    with pytest.raises(ValueError, match=r"kafka: .*(letters, digits|249)"):
        backend.server(name)
    if len(name) > 1 and name != "..":
        with pytest.raises(ValueError, match=r"kafka: .*(letters, digits|249)"):
            backend.server("t", subscription=name)
    with pytest.raises(ValueError, match="249"):
        backend.server("x" * 240)  # x….default.retry
    await backend.close()


def test_options() -> None:
    backend = mv.connect(
        "kafka://a:1,[::1],c?partitions=4&replication_factor=2&key=order-id&idempotent=true",
        max_message=10**7,
    )
    assert isinstance(backend, KafkaBackend)
    assert backend.consumer_options["bootstrap_servers"] == ["a:1", "[::1]:9092", "c:9092"]
    assert (backend.partitions, backend.replication_factor, backend.key) == (4, 2, "Order-Id")
    assert not backend.features.ordered
    assert backend.idempotent
    assert 9_900_000 < (backend.features.max_body or 0) < 10**7
    assert mv.connect("kafka://a").features.ordered
    secure = mv.connect("kafka://joe:secret@a?tls=true&sasl_mechanism=SCRAM-SHA-512")
    assert isinstance(secure, KafkaBackend)
    assert secure.consumer_options["security_protocol"] == "SASL_SSL"
    assert secure.consumer_options["sasl_plain_password"] == "secret"
    assert "secret" not in repr(secure)


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka:///t", "kafka://a/topic", "kafka://a?partitions=0", "kafka://a?session=0",
            "kafka://a?max_message=10", "kafka://a?bogus=1", "kafka://a:port", "kafka://a?timeout=0"]
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        mv.connect(url)


def test_arguments_that_are_refused() -> None:
    with pytest.raises(TypeError, match="bogus"):
        mv.connect("kafka://a", bogus=1)
    with pytest.raises(TypeError, match="SSLContext"):
        mv.connect("kafka://a", ssl_context="file.pem")
