"""Threads with loops of their own record into one log, while others look."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pandas as pd

import msgviz as mv
from msgviz.observing import ID_ATTRIBUTE
from tests.flows import Kept, columns, observed


def test_threads_publish_at_once_and_nothing_is_lost_while_frames_are_read():
    log, backend = observed()
    threads, each = 8, 250
    done = threading.Event()
    problems: list[BaseException] = []
    frames: list[tuple[pd.DataFrame, int]] = []

    def publish(number: int) -> None:
        async def many() -> None:
            topic = backend.topic(f"topic {number % 3}")
            for message in range(each):
                await topic.publish(b"%d/%d" % (number, message))

        try:
            asyncio.run(many())
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    def look() -> None:
        try:
            while not done.is_set():
                events = log.events
                frames.append((events, len(events)))
                assert len(log.messages) >= len(events)
                assert len(log.since(len(events) // 2)) >= len(events) - len(events) // 2
                assert len(log.failures) == 0
                assert sum(log.count_states().values()) >= len(events)
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    workers = [threading.Thread(target=publish, args=(number,)) for number in range(threads)]
    readers = [threading.Thread(target=look) for _ in range(2)]
    for thread in (*readers, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert problems == []
    events = log.events
    assert events.index.tolist() == list(range(threads * each))
    assert events["message_id"].is_unique
    assert set(events["body"]) == {b"%d/%d" % (n, m) for n in range(threads) for m in range(each)}
    for number in range(threads):  # each thread's own order is kept
        own = [b for b in events["body"] if b.startswith(b"%d/" % number)]
        assert own == [b"%d/%d" % (number, m) for m in range(each)]
    assert len(log.messages) == threads * each
    for frame, length in frames:
        assert len(frame) == length
        assert frame["body"].tolist() == events["body"].tolist()[:length]


def test_threads_record_into_a_bounded_log_while_it_is_read():
    log = mv.MessageLog(max_events=200)
    problems: list[BaseException] = []
    done = threading.Event()
    highest = 0

    async def receiver(message: mv.Message) -> None:
        if message.body == b"bad":
            raise ValueError

    def receive() -> None:
        async def many() -> None:
            observer = mv.observe(receiver, log)
            for number in range(500):
                with contextlib.suppress(ValueError):
                    await observer(mv.Message(b"bad" if number % 5 == 0 else b"good"))

        try:
            asyncio.run(many())
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    def look() -> None:
        nonlocal highest
        try:
            while not done.is_set():
                events = log.events
                assert events.index.is_monotonic_increasing
                assert events.index.is_unique
                assert log.failures["messages"].sum() <= log.next_event_id
                highest = max(highest, len(events))
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=receive) for _ in range(4)]
    reader = threading.Thread(target=look)
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    assert problems == []
    assert log.next_event_id == 2000 == len(log) + log.dropped
    # Threads that record at the same moment may each add one before room is made.
    assert highest <= 300
    assert len(log) <= 300


def test_an_event_is_recorded_on_the_thread_that_published_it_and_seen_on_another():
    log, wire = mv.MessageLog(), Kept()
    topic = mv.observe(wire, log)
    thread = threading.Thread(target=lambda: asyncio.run(topic.publish(b"x")))
    thread.start()
    thread.join()
    assert columns(log, "body") == [(b"x",)]
    assert ID_ATTRIBUTE in wire.sent[0].attributes
