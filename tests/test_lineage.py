"""Lineage: which message was published while which was being received."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from contextlib import AsyncExitStack
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from tests.flows import Kept, accept, observed, refuse, until


def parents(log: mv.MessageLog) -> dict[str, str | None]:
    """The body of each message, and that of its parent. Bodies are unique."""
    messages = log.messages
    bodies = {i: log.detail(i).body.decode() for i in messages.index}
    return {
        bodies[i]: None if pd.isna(parent) else bodies[parent] for i, parent in messages["parent_id"].items()
    }


def conversations(log: mv.MessageLog) -> dict[str, str]:
    """The body of each message, and that of the first of its conversation."""
    messages = log.messages
    bodies = {i: log.detail(i).body.decode() for i in messages.index}
    return {bodies[i]: bodies[first] for i, first in messages["conversation_id"].items()}


async def test_a_message_published_outside_a_receive_has_no_parent():
    log, backend = observed()
    await backend.topic("t").publish(b"one")
    async with backend.server("t").running(accept):
        await log.settled(5)
        await backend.topic("t").publish(b"two")
        await log.settled(5)
    assert parents(log) == {"one": None, "two": None}
    assert conversations(log) == {"one": "one", "two": "two"}


async def test_what_is_published_after_a_receiver_was_called_is_not_caused_by_its_message():
    log = mv.MessageLog()
    topic = mv.observe(Kept(), log)
    for call in (accept, refuse):
        with contextlib.suppress(ValueError):
            await mv.observe(call, log)(mv.Message(b"received by " + call.__name__.encode()))
        await topic.publish(b"after " + call.__name__.encode())
    assert parents(log) == dict.fromkeys(
        ("received by accept", "after accept", "received by refuse", "after refuse")
    )


async def test_a_chain_of_messages_is_one_conversation():
    log, backend = observed()

    async def forward(message: mv.Message) -> None:
        if len(message.body) < 5:
            await backend.topic("t").publish(message.body + b"x")

    async with backend.server("t").running(forward):
        await backend.topic("t").publish(b"x")
        await backend.topic("t").publish(b"ax")
        await log.settled(5)
    assert parents(log) == {
        "x": None, "xx": "x", "xxx": "xx", "xxxx": "xxx", "xxxxx": "xxxx",
        "ax": None, "axx": "ax", "axxx": "axx", "axxxx": "axxx",
    }  # fmt: skip
    assert conversations(log) == {body: "ax" if body.startswith("a") else "x" for body in parents(log)}


async def in_line(topic: mv.Topic) -> None:
    await topic.publish(b"one")
    await topic.publish(b"two")


async def in_gather(topic: mv.Topic) -> None:
    await asyncio.gather(topic.publish(b"one"), topic.publish(b"two"))


async def in_tasks(topic: mv.Topic) -> None:
    tasks = [asyncio.create_task(topic.publish(body)) for body in (b"one", b"two")]
    await asyncio.wait(tasks)


async def in_a_task_group(topic: mv.Topic) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(topic.publish(b"one"))
        group.create_task(topic.publish(b"two"))


async def in_a_task_of_a_task(topic: mv.Topic) -> None:
    async def outer() -> None:
        await asyncio.create_task(topic.publish(b"one"))
        await asyncio.create_task(topic.publish(b"two"))

    await asyncio.create_task(outer())


async def in_a_callback(topic: mv.Topic) -> None:
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    loop.call_soon(lambda: tasks.append(loop.create_task(topic.publish(b"one"))))
    loop.call_soon(lambda: tasks.append(loop.create_task(topic.publish(b"two"))))
    await asyncio.sleep(0)
    await asyncio.gather(*tasks)


async def in_a_thread(topic: mv.Topic) -> None:
    await asyncio.to_thread(lambda: asyncio.run(topic.publish(b"one")))
    await asyncio.to_thread(lambda: asyncio.run(topic.publish(b"two")))


async def in_a_thread_on_the_loop(topic: mv.Topic) -> None:
    loop = asyncio.get_running_loop()

    def work() -> None:
        asyncio.run_coroutine_threadsafe(topic.publish(b"one"), loop).result()
        asyncio.run_coroutine_threadsafe(topic.publish(b"two"), loop).result()

    await asyncio.to_thread(work)


@pytest.mark.parametrize(
    "publish",
    [
        in_line, in_gather, in_tasks, in_a_task_group, in_a_task_of_a_task, in_a_callback, in_a_thread,
        in_a_thread_on_the_loop,
    ],
)  # fmt: skip
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_what_a_receiver_publishes_is_caused_by_its_message(publish: Any, concurrency: int):
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        await publish(backend.topic("children"))

    async with (
        backend.server("t", concurrency=concurrency).running(receiver),
        backend.server("children").running(accept),
    ):
        await backend.topic("t").publish(b"parent")
        await log.settled(5)
    assert parents(log) == {"parent": None, "one": "parent", "two": "parent"}
    assert set(conversations(log).values()) == {"parent"}
    assert set(log.messages["state"]) == {"ok"}


@pytest.mark.parametrize("how", ["own loop", "server's loop"])
async def test_what_a_plain_function_publishes_is_caused_by_its_message(how: str):
    log, backend = observed()
    loop = asyncio.get_running_loop()
    threads = set()

    def receiver(message: mv.Message) -> None:
        threads.add(threading.get_ident())
        for child in (b"one of ", b"two of "):
            publish = backend.topic("children").publish(child + message.body)
            if how == "own loop":
                asyncio.run(publish)
            else:
                asyncio.run_coroutine_threadsafe(publish, loop).result()

    async with (
        backend.server("t", concurrency=3).running(receiver),
        backend.server("children").running(accept),
    ):
        for name in (b"a", b"b", b"c", b"d"):
            await backend.topic("t").publish(name)
        await log.settled(10)
    assert threading.get_ident() not in threads
    expected = dict.fromkeys("abcd")
    expected |= {f"{child} of {name}": name for name in "abcd" for child in ("one", "two")}
    assert parents(log) == expected
    assert conversations(log) == {body: parent or body for body, parent in expected.items()}


async def test_receives_at_the_same_time_do_not_mix_up_their_children():
    log, backend = observed()
    all_in = asyncio.Barrier(8)

    async def receiver(message: mv.Message) -> None:
        await all_in.wait()
        await backend.topic("children").publish(b"child of " + message.body)
        await all_in.wait()
        await asyncio.gather(
            *(backend.topic("children").publish(b"%d of %s" % (n, message.body)) for n in range(3))
        )

    async with backend.server("t", concurrency=8).running(receiver):
        for number in range(8):
            await backend.topic("t").publish(b"m%d" % number)
        await until(lambda: len(log) == 8 + 8 + 8 * 4)
    found = parents(log)
    assert len(found) == 8 * 5
    assert all(parent == (body.partition(" of ")[2] or None) for body, parent in found.items())


async def test_a_task_that_outlives_its_receive_still_speaks_for_its_message():
    log, backend = observed()
    go_on, tasks = asyncio.Event(), []

    async def later() -> None:
        await go_on.wait()
        await backend.topic("children").publish(b"late")

    async def receiver(message: mv.Message) -> None:
        tasks.append(asyncio.create_task(later()))

    async with backend.server("t").running(receiver):
        await backend.topic("t").publish(b"parent")
        await log.settled(5)
        await backend.topic("t2").publish(b"other")
        go_on.set()
        await tasks[0]
    assert parents(log) == {"parent": None, "other": None, "late": "parent"}


async def test_each_attempt_is_a_receive_of_the_same_parent():
    log, backend = observed()

    async def receiver(message: mv.Message) -> None:
        await backend.topic("children").publish(b"child %d" % message.attempt)
        raise ValueError

    async with backend.server("t", max_attempts=3, backoff=0).running(receiver):
        await backend.topic("t").publish(b"parent")
        await until(lambda: len(log) == 1 + 3 + 3)
    assert parents(log) == {"parent": None} | {f"child {n}": "parent" for n in (1, 2, 3)}


async def test_both_subscriptions_children_are_of_the_one_message():
    log, backend = observed()

    def receiver_of(name: bytes) -> mv.Receiver:
        async def receiver(message: mv.Message) -> None:
            await backend.topic("children").publish(name)

        return receiver

    async with (
        backend.server("t", subscription="one").running(receiver_of(b"by one")),
        backend.server("t", subscription="two").running(receiver_of(b"by two")),
    ):
        await backend.topic("t").publish(b"parent")
        await until(lambda: len(log) == 5)
    assert parents(log) == {"parent": None, "by one": "parent", "by two": "parent"}


async def test_lineage_goes_through_hand_composed_observers_and_without_propagation():
    log, bare = mv.MessageLog(), mv.connect("memory://")
    topics = {name: mv.observe(bare.topic(name), log, propagate=False) for name in ("t", "children")}

    async def receiver(message: mv.Message) -> None:
        await topics["children"].publish(b"child")

    async with (
        bare.server("t").running(mv.observe(receiver, log)),
        bare.server("children").running(mv.observe(accept, log)),
    ):
        await topics["t"].publish(b"parent")
        await until(lambda: len(log) == 4)
    assert parents(log) == {"parent": None, "child": "parent"}
    assert log.messages["attempts"].tolist() == [1, 1]


async def test_lineage_goes_from_one_backend_to_another():
    log = mv.MessageLog()
    here, there = (mv.observe(mv.connect("memory://"), log) for _ in range(2))

    async def forward(message: mv.Message) -> None:
        await there.topic("out").publish(b"child")

    async with here.server("in").running(forward), there.server("out").running(accept):
        await here.topic("in").publish(b"parent")
        await log.settled(5)
    assert parents(log) == {"parent": None, "child": "parent"}


Tree = list["Tree"]  # type: ignore[misc]
trees: st.SearchStrategy[Tree] = st.recursive(
    st.just([]), lambda children: st.lists(children, max_size=4), max_leaves=12
)


def named(tree: Tree, name: str) -> dict[str, Any]:
    return {"name": name, "children": [named(child, f"{name}.{n}") for n, child in enumerate(tree)]}


def expected_parents(tree: Tree, name: str, parent: str | None) -> dict[str, str | None]:
    found: dict[str, str | None] = {name: parent}
    for number, child in enumerate(tree):
        found |= expected_parents(child, f"{name}.{number}", name)
    return found


@settings(max_examples=25)
@given(
    forest=st.lists(trees, min_size=1, max_size=3),
    concurrency=st.integers(1, 4),
    at_once=st.booleans(),
    fails=st.integers(0, 2),
)
def test_a_tree_of_causes_is_found_again_exactly(
    forest: list[Tree], concurrency: int, at_once: bool, fails: int
):
    log, backend = observed()
    names = ["even", "odd"]

    async def receiver(message: mv.Message) -> None:
        story = message.json()
        depth = story["name"].count(".")
        if message.attempt <= fails and depth % 2:
            raise ValueError("not yet")
        publishes = (backend.topic(names[(depth + 1) % 2]).publish(json=child) for child in story["children"])
        if at_once:
            await asyncio.gather(*publishes)
        else:
            for publish in publishes:
                await publish

    async def flow() -> None:
        async with AsyncExitStack() as stack:
            for name in names:
                server = backend.server(name, concurrency=concurrency, backoff=0)
                await stack.enter_async_context(server.running(receiver))
            await asyncio.gather(
                *(
                    backend.topic("even").publish(json=named(tree, f"root{n}"))
                    for n, tree in enumerate(forest)
                )
            )
            await log.settled(10)

    asyncio.run(flow())
    messages = log.messages
    names_of = {i: json.loads(log.detail(i).body)["name"] for i in messages.index}
    found = {
        names_of[i]: None if pd.isna(parent) else names_of[parent]
        for i, parent in messages["parent_id"].items()
    }
    expected: dict[str, str | None] = {}
    for number, tree in enumerate(forest):
        expected |= expected_parents(tree, f"root{number}", None)
    assert found == expected
    assert len(messages) == len(expected)
    assert {names_of[i]: names_of[c] for i, c in messages["conversation_id"].items()} == {
        name: name.partition(".")[0] for name in expected
    }
    for message_id in messages.index:
        children = {names_of[i] for i in log.detail(message_id).children}
        assert children == {name for name, parent in expected.items() if parent == names_of[message_id]}
