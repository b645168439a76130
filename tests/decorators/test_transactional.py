"""transactional: all that a receiver publishes goes out, or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import retry, transactional, with_options
from msgviz.decorators.transactional import TransactionEnded
from tests.decorators import clock
from tests.decorators.laws import Taken, delivered
from tests.flows import Kept, observed, until
from tests.queues import bodies_left, drained, turns


class Journal(mv.Topic):
    """A topic that writes into a list that several share; refuses the body b"refused"."""

    def __init__(self, name: str, sent: list[Any]) -> None:
        self.name = name
        self.sent = sent

    async def send(self, message: mv.Message, delay: float) -> None:
        await asyncio.sleep(0)
        if message.body == b"refused":
            raise ConnectionError("gone")
        self.sent.append((self.name, message.body, message.attributes.to_dict(), delay))


def journals(*names: str) -> tuple[list[Any], dict[str, mv.Topic]]:
    sent: list[Any] = []
    return sent, {name: transactional.encoder(Journal(name, sent)) for name in names}


publishes = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([b"x", b"y", b"refused"]) | st.binary(max_size=3),
        st.floats(0, 100),
    ),
    max_size=8,
)


@given(
    publishes=publishes, ends=st.sampled_from([None, ValueError, asyncio.CancelledError, KeyboardInterrupt])
)
@settings(max_examples=100)
def test_all_in_order_or_nothing(publishes: list[Any], ends: type[BaseException] | None) -> None:
    async def run() -> None:
        sent, topics = journals("a", "b")

        async def receive(message: mv.Message) -> None:
            for number, (name, body, delay) in enumerate(publishes):
                await topics[name].publish(body, attributes={"N": str(number)}, delay=delay)
                assert sent == []
            if ends is not None:
                raise ends

        whole = [
            (name, body, {"N": [str(number)]}, delay) for number, (name, body, delay) in enumerate(publishes)
        ]
        bodies = [body for _, body, _ in publishes]
        receiver = transactional.decoder(receive)
        if ends is not None:
            with pytest.raises(ends):
                await receiver(delivered())
            assert sent == []
        elif b"refused" in bodies:
            before = bodies.index(b"refused")
            with pytest.raises(ConnectionError, match="gone") as raised:
                await receiver(delivered())
            assert sent == whole[:before]
            told = f"{before} of {len(bodies)} messages of this receiver had gone out before"
            assert getattr(raised.value, "__notes__", []) == ([told] if before else [])
        else:
            await receiver(delivered())
            assert sent == whole
        # And it is over: outside of a receiver, at once.
        await topics["a"].publish(b"outside", delay=3)
        assert sent[-1] == ("a", b"outside", {}, 3.0)

    clock.run(run())


@given(
    fates=st.lists(st.booleans(), min_size=2, max_size=6),
    pauses=st.lists(st.sampled_from([0, 1, 2, 3]), min_size=6, max_size=6),
)
@settings(max_examples=50)
def test_messages_at_the_same_time_do_not_mix(fates: list[bool], pauses: list[int]) -> None:
    async def run() -> None:
        sent, topics = journals("a")

        async def receive(message: mv.Message) -> None:
            number = int(message.body)
            for part in (b"1", b"2"):
                await asyncio.sleep(pauses[number])
                await topics["a"].publish(message.body + part)
            if not fates[number]:
                raise ValueError

        receiver = transactional.decoder(receive)
        results = await asyncio.gather(
            *(receiver(delivered(b"%d" % number)) for number in range(len(fates))), return_exceptions=True
        )
        assert [result is None for result in results] == fates
        bodies = [body for _, body, _, _ in sent]
        for number, fate in enumerate(fates):
            own = [body for body in bodies if body.startswith(b"%d" % number)]
            assert own == ([b"%d1" % number, b"%d2" % number] if fate else [])

    clock.run(run())


@pytest.mark.parametrize("inner_fails", [False, True])
@pytest.mark.parametrize("outer_fails", [False, True])
async def test_a_receiver_in_a_receiver_has_a_transaction_of_its_own(
    inner_fails: bool, outer_fails: bool
) -> None:
    sent, topics = journals("a")

    @transactional.decoder
    async def inner(message: mv.Message) -> None:
        await topics["a"].publish(b"inner")
        if inner_fails:
            raise ValueError

    @transactional.decoder
    async def outer(message: mv.Message) -> None:
        await topics["a"].publish(b"outer 1")
        try:
            await inner(message)
        except ValueError:
            assert inner_fails
        await topics["a"].publish(b"outer 2")
        if outer_fails:
            raise KeyError

    try:
        await outer(delivered())
    except KeyError:
        assert outer_fails
    bodies = [body for _, body, _, _ in sent]
    assert bodies == ([] if inner_fails else [b"inner"]) + ([] if outer_fails else [b"outer 1", b"outer 2"])


async def test_tasks_that_the_receiver_awaited_belong_to_it() -> None:
    sent, topics = journals("a")

    async def receive(message: mv.Message) -> None:
        async with asyncio.TaskGroup() as group:
            for body in (b"1", b"2"):
                group.create_task(topics["a"].publish(body))
        await asyncio.wait_for(topics["a"].publish(b"3"), 10)
        assert sent == []

    await transactional.decoder(receive)(delivered())
    assert [body for _, body, _, _ in sent] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_outlives_the_receiver_is_told(fails: bool) -> None:
    sent, topics = journals("a")
    ended = asyncio.Event()
    late: list[asyncio.Task[None]] = []

    async def publish_late() -> None:
        await ended.wait()
        await topics["a"].publish(b"late")

    async def receive(message: mv.Message) -> None:
        late.append(asyncio.create_task(publish_late()))
        if fails:
            raise ValueError

    await asyncio.gather(transactional.decoder(receive)(delivered()), return_exceptions=True)
    ended.set()
    with pytest.raises(TransactionEnded, match="published to 'a' has ended: it was not sent"):
        await late[0]
    assert issubclass(TransactionEnded, mv.MsgvizError)
    assert sent == []


async def test_a_task_that_publishes_while_the_rest_goes_out_is_told() -> None:
    sent: list[mv.Message] = []
    late: list[asyncio.Task[None]] = []

    class Slow(Kept):
        async def send(self, message: mv.Message, delay: float) -> None:
            sent.append(message)
            await asyncio.wait(late)

    topic = transactional.encoder(Slow())

    async def publish_late() -> None:
        await until(lambda: sent)
        await topic.publish(b"late")

    async def receive(message: mv.Message) -> None:
        late.append(asyncio.create_task(publish_late()))
        await topic.publish(b"in time")

    await transactional.decoder(receive)(delivered())
    assert [message.body for message in sent] == [b"in time"]
    assert isinstance(late[0].exception(), TransactionEnded)


@pytest.mark.parametrize("fails", [False, True])
async def test_plain_functions_publish_from_their_threads(fails: bool) -> None:
    sent, topics = journals("a")
    loop = asyncio.get_running_loop()

    def receive(message: mv.Message) -> None:
        asyncio.run_coroutine_threadsafe(topics["a"].publish(b"1"), loop).result(10)
        asyncio.run(topics["a"].publish(b"2"))  # on a loop of the thread's own
        assert sent == []
        if fails:
            raise ValueError("no")

    results = await asyncio.gather(transactional.decoder(receive)(delivered()), return_exceptions=True)
    assert [str(result) for result in results] == ["no" if fails else "None"]
    assert [body for _, body, _, _ in sent] == ([] if fails else [b"1", b"2"])


async def test_twice_around_a_topic_is_as_once() -> None:
    sent: list[Any] = []
    topic = transactional.encoder(transactional.encoder(Journal("a", sent)))

    @transactional.decoder
    @transactional.decoder
    async def receive(message: mv.Message) -> None:
        await topic.publish(b"x")
        assert sent == []

    await receive(delivered())
    assert [body for _, body, _, _ in sent] == [b"x"]


def test_cancelled_while_it_goes_out() -> None:
    async def run() -> None:
        begun: list[bytes] = []
        cancelled: list[bytes] = []

        class Stuck(Kept):
            async def send(self, message: mv.Message, delay: float) -> None:
                begun.append(message.body)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(message.body)
                    raise

        topic = transactional.encoder(Stuck())

        @transactional.decoder
        async def receive(message: mv.Message) -> None:
            await topic.publish(b"1")
            await topic.publish(b"2")

        task = asyncio.create_task(receive(delivered()))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (begun, cancelled) == ([b"1"], [b"1"])

    clock.run(run())


async def test_on_a_server() -> None:
    async with mv.connect("memory://") as backend:
        chain = (transactional, with_options(retry, attempts=2, first=0))
        out = backend.topic("out", decorators=(transactional,))
        await backend.declare("out", "default", "other")

        async def receive(message: mv.Message) -> None:
            await taken(message)
            await out.publish(b"%d" % len(taken.messages))
            await out.to_subscription("other").publish(b"to one")
            if len(taken.messages) < 4:
                raise ValueError

        taken = Taken()
        async with backend.server("t", decorators=chain, backoff=0).running(receive):
            await backend.topic("t").publish(b"x")
            await taken.count(4)
        # Each attempt was a transaction of its own, in place or delivered again.
        assert [message.attempt for message in taken.messages] == [1, 1, 2, 2]
        assert await bodies_left(backend, "out") == [b"4"]
        assert await bodies_left(backend, "out", "other") == [b"4", b"to one"]


async def test_a_message_whose_outbox_cannot_be_sent_is_delivered_again() -> None:
    async with mv.connect("memory://") as backend:
        kept = Kept(error=ConnectionError("gone"))
        topic = transactional.encoder(kept)

        async def receive(message: mv.Message) -> None:
            await taken(message)
            if message.attempt == 2:
                kept.error = None
            await topic.publish(b"out")

        taken = Taken()
        async with backend.server("t", decorators=[transactional], backoff=0).running(receive):
            await backend.topic("t").publish(b"x")
            await taken.count(2)
        assert [message.attempt for message in taken.messages] == [1, 2]
        assert [message.body for message in kept.sent] == [b"out"]


@pytest.mark.parametrize("inside", [False, True])
async def test_what_caused_a_message_is_known_though_it_goes_out_later(inside: bool) -> None:
    log, backend = observed()
    if inside:  # the observer sees what goes out
        out = transactional.encoder(backend.topic("out"))
    else:  # or what was published
        out = backend.topic("out", decorators=[transactional])

    async def receive(message: mv.Message) -> None:
        await out.publish(b"child")

    taken = Taken()
    async with (
        backend.server("t", decorators=[transactional]).running(receive),
        backend.server("out").running(taken),
    ):
        await backend.topic("t").publish(b"parent")
        await taken.count(1)
        await log.settled(10)
    messages = log.messages
    parent, child = messages.index
    assert messages.loc[child, "parent_id"] == parent
    assert messages.loc[child, "conversation_id"] == parent


async def test_delays_reach_the_system() -> None:
    async with mv.connect("memory://") as backend:
        out = backend.topic("out", decorators=[transactional])

        @transactional.decoder
        async def receive(message: mv.Message) -> None:
            await out.publish(b"later", delay=3600)
            await out.publish(b"now")

        await backend.declare("out", "default")
        await receive(delivered())
        assert [message.body for message in await drained(backend, "out")] == [b"now"]
