"""Reading a log that has many events, some of them dropped: the cheap ways tell the same as the frames."""

from __future__ import annotations

from tests.flows import observed


async def test_counts_and_details_of_a_log_that_drops() -> None:
    log, backend = observed(max_events=4_000)
    topic = backend.topic("orders")

    async def receive(message: object) -> None:
        number = int(message.text)  # type: ignore[attr-defined]
        if number % 50 == 0:
            raise ValueError(number)
        if number % 7 == 0:
            await backend.topic("parcels").publish(b"%d" % -number)

    server = backend.server("orders", subscription="billing", concurrency=8, max_attempts=3, backoff=0)
    server.start(receive)
    parcels = backend.server("parcels", subscription="carrier")
    parcels.start(lambda message: None)
    for number in range(6_000):
        await topic.publish(b"%d" % number)
        if number % 1_500 == 0:
            counts = log.messages["state"].value_counts()
            assert {state: n for state, n in log.count_states().items() if n} == counts[counts > 0].to_dict()
    await log.settled(30)
    await server.shutdown(5)
    await parcels.shutdown(5)
    assert log.dropped
    messages, events = log.messages, log.events
    counts = messages["state"].value_counts()
    assert {state: n for state, n in log.count_states().items() if n} == counts[counts > 0].to_dict()

    by_message = events.groupby("message_id").groups
    parents = events.dropna(subset=["parent_id"]).drop_duplicates("message_id")
    children = parents.groupby("parent_id")["message_id"].apply(list).to_dict()
    for message_id in messages.index[::97]:
        detail = log.detail(message_id)
        assert sorted(a.event_id for a in detail.attempts) == sorted(by_message[message_id])
        assert detail.children == children.get(message_id, [])
        assert detail.state == messages.loc[message_id, "state"]
    assert any(log.detail(i).children for i in messages.index if i in children)
    await backend.close()
