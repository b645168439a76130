"""tracing: OpenTelemetry spans for publishes and receives."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace

import msgviz as mv
from msgviz.decorators import base64, batch, lz4, tracing
from tests.decorators import laws
from tests.decorators.spans import (
    OC_EXAMPLE,
    W3C_IDS,
    W3C_PARENT,
    W3C_STATE,
    Spans,
    ids,
    parent_ids,
    receive,
    text,
)
from tests.flows import Kept, accept, observed, until
from tests.queues import Taking


@pytest.fixture
def spans() -> Spans:
    return Spans()


# -- the whole way


async def test_a_receive_is_part_of_the_trace_of_its_publish(spans: Spans) -> None:
    chain = (spans.chain(system="rabbitmq"), lz4, base64)
    async with mv.connect("memory://") as backend:
        seen: list[tuple[int, int]] = []

        def inner(message: mv.Message) -> None:  # in a thread
            seen.append(ids(trace.get_current_span()))

        topic = backend.topic("orders", decorators=chain)
        async with backend.server("orders", subscription="billing", decorators=chain).running(inner):
            with spans.tracer.start_as_current_span("checkout") as checkout:
                await topic.publish(b"12345")
                assert trace.get_current_span() is checkout
            await until(lambda: len(spans.all) == 3)
    send, process = spans.of(trace.SpanKind.PRODUCER), spans.of(trace.SpanKind.CONSUMER)
    assert (send.name, process.name) == ("send orders", "process orders")
    assert parent_ids(send) == ids(checkout)
    assert parent_ids(process) == ids(send)
    assert process.parent is not None
    assert process.parent.is_remote
    assert seen == [ids(process)]
    assert dict(send.attributes or {}) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": "orders",
        "messaging.message.body.size": 5,
    }
    assert dict(process.attributes or {}) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "orders",
        "messaging.destination.subscription.name": "billing",
        "messaging.message.body.size": 5,
    }
    assert {span.status.status_code for span in spans.all} == {trace.StatusCode.UNSET}
    scope = send.instrumentation_scope
    assert scope is not None
    assert scope.name == "msgviz.decorators.tracing"


async def test_a_message_that_is_observed_has_an_id_and_the_conversation_of_its_trace(spans: Spans) -> None:
    log, backend = observed()
    topic = backend.topic("t", decorators=[spans.chain()])
    got = Taking()
    async with backend.server("t", decorators=[spans.chain()]).running(got):
        await topic.publish(b"x")
        await topic.publish(b"y", attributes={"Traceparent": W3C_PARENT})
        await log.settled(5)
    received = log.events.query("operation == 'receive'")
    shown = [
        dict(span.attributes or {})["messaging.message.id"]
        for span in spans.all
        if span.kind is trace.SpanKind.CONSUMER
    ]
    assert shown == received["message_id"].tolist()
    assert received["conversation_id"].tolist()[1] == W3C_PARENT.split("-")[1]
    assert [f"{span.get_span_context().trace_id:032x}" for span in spans.all].count(
        W3C_PARENT.split("-")[1]
    ) == 2


async def test_each_message_of_a_batch_has_its_own_trace(spans: Spans) -> None:
    async with mv.connect("memory://") as backend:
        chain = (spans.chain(), batch)
        got = Taking()
        topic = backend.topic("t", decorators=chain)
        async with backend.server("t", decorators=chain).running(got):
            await asyncio.gather(*(topic.publish(b"%d" % n) for n in range(5)))
            await until(lambda: len(got.messages) == 5)
    sent = {ids(span) for span in spans.all if span.kind is trace.SpanKind.PRODUCER}
    received = {parent_ids(span) for span in spans.all if span.kind is trace.SpanKind.CONSUMER}
    assert sent == received
    assert len({trace_id for trace_id, _ in sent}) == 5


async def test_linked_spans_begin_traces_of_their_own(spans: Spans) -> None:
    kept = Kept("orders")
    await spans.chain().encoder(kept).publish(b"x")
    send = spans.of(trace.SpanKind.PRODUCER)
    await receive(spans.chain(join="link"), kept.sent[0].attributes.to_dict())
    process = spans.of(trace.SpanKind.CONSUMER)
    assert process.parent is None
    assert ids(process)[0] != ids(send)[0]
    assert [ids(link.context) for link in process.links] == [ids(send)]
    # or from the span of the caller
    with spans.tracer.start_as_current_span("poll") as poll:
        await receive(spans.chain(join="link"), {"Traceparent": W3C_PARENT})
    second = [span for span in spans.all if span.kind is trace.SpanKind.CONSUMER][1]
    assert parent_ids(second) == ids(poll)
    assert [ids(link.context) for link in second.links] == [W3C_IDS]


async def test_names_and_systems_of_ones_own(spans: Spans) -> None:
    chain = spans.chain(span_name="msg.MessageWriter", system="aws.sns")
    await chain.encoder(Kept()).publish(b"x")
    await receive(spans.chain(span_name="msg.Receiver"), {})
    await spans.chain().decoder(accept)(mv.Message(b"of no server"))
    assert [span.name for span in spans.all] == ["msg.MessageWriter", "msg.Receiver", "process"]
    systems = [dict(span.attributes or {}).get("messaging.system") for span in spans.all]
    assert systems == ["aws.sns", None, None]


# -- what fails


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "kind", "description"),
    [
        (ValueError("negative amount"), "ValueError", "negative amount"),
        (mv.DecodeError("lz4", "no frame"), "msgviz.errors.DecodeError", "lz4: no frame"),
        (TimeoutError(), "TimeoutError", "TimeoutError"),
        (Unspeakable(), "tests.decorators.test_tracing.Unspeakable", "Unspeakable"),
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError", "CancelledError"),
    ],
)
async def test_errors_are_told_on_the_span_and_raised_as_they_are(
    spans: Spans, error: BaseException, kind: str, description: str
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await receive(spans.chain(), {}, fail)
    assert raised.value is error
    with pytest.raises(type(error)) as raised:
        await spans.chain().encoder(Kept(error=error)).publish(b"x")
    assert raised.value is error
    for span in spans.all:
        assert dict(span.attributes or {})["error.type"] == kind
        assert span.status.status_code is trace.StatusCode.ERROR
        assert span.status.description == description
        recorded = [] if isinstance(error, (asyncio.CancelledError, Unspeakable)) else ["exception"]
        assert [event.name for event in span.events] == recorded
    assert len(spans.all) == 2
    assert not trace.get_current_span().get_span_context().is_valid


async def test_laws(spans: Spans) -> None:
    for chain in (spans.chain(), tracing):
        await laws.forwards_the_delay(chain)
        await laws.raises_what_the_topic_raises(chain)
        await laws.lets_a_publish_be_cancelled(chain)
        await laws.hands_on_what_came(chain, laws.delivered(b"x", Traceparent=W3C_PARENT))
        await laws.raises_what_the_receiver_raises(chain, laws.delivered())
        await laws.lets_cancellation_through(chain, laws.delivered())
        await laws.leaves_the_receivers_own_timeout_alone(chain, laws.delivered())
        await laws.takes_many_at_once(chain)
        await laws.decorates_plain_functions(chain)
        laws.shows_its_layer(chain, "tracing")
    ended = len(spans.all)
    assert ended == 3 + 2 + 1 + 1 + 4 + 1 + 1 + 50 + 1


@given(laws.deliveries(st.binary(max_size=10)))
@settings(max_examples=50)
def test_a_message_keeps_all_it_had(message: mv.Message) -> None:
    spans = Spans()
    before = laws.told(message)

    async def run() -> mv.Message:
        kept = Kept()
        await spans.chain().encoder(kept).send(message, 0.0)
        return kept.sent[0]

    wire = asyncio.run(run())
    assert laws.told(message) == before
    for key in ("Traceparent", "Tracecontext"):
        del wire.attributes[key]
    assert laws.told(wire) == before


# -- without an SDK


async def test_without_an_sdk_a_context_passes_on_and_none_is_made() -> None:
    kept = Kept()
    await tracing.encoder(kept).publish(b"x", attributes={"k": "v"})
    assert kept.sent[0].attributes == {"k": "v"}
    await tracing.encoder(kept).publish(b"x", attributes={"Traceparent": W3C_PARENT})
    assert kept.sent[1].attributes["Traceparent"] == W3C_PARENT

    async def forward(message: mv.Message) -> None:
        await tracing.encoder(kept).publish(b"y")

    receiver: Any = tracing.decoder(forward)
    await receiver(mv.Message(b"x", {"Tracecontext": text(OC_EXAMPLE), "Tracestate": W3C_STATE}))
    assert kept.sent[2].attributes == {
        "Traceparent": "00-4bf92f3577b34da6a3ce929d000e4736-34f067aa0ba902b7-01",
        "Tracestate": W3C_STATE,
        "Tracecontext": text(OC_EXAMPLE),
    }


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_nothing_global_is_changed() -> None:
    code = """
from opentelemetry import trace, propagate
propagator = propagate.get_global_textmap()
from msgviz.decorators import tracing
import asyncio, msgviz as mv
async def main():
    async with mv.connect("memory://") as backend:
        await backend.topic("t", decorators=[tracing]).publish(b"x")
asyncio.run(main())
print(propagate.get_global_textmap() is propagator, trace._TRACER_PROVIDER)
"""
    assert python(code) == "True None"


def test_a_provider_that_is_set_later_is_used() -> None:
    code = """
import asyncio, msgviz as mv
from msgviz.decorators import tracing
backend = mv.connect("memory://")
topic = backend.topic("t", decorators=[tracing])
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
asyncio.run(topic.publish(b"x"))
print([span.name for span in exporter.get_finished_spans()])
"""
    assert python(code) == "['send t']"


def test_without_its_library_it_says_which_extra_brings_it() -> None:
    code = """
import sys; sys.modules["opentelemetry"] = None
import msgviz
try:
    from msgviz.decorators import tracing
except msgviz.MissingExtra as error:
    print(error.extra, error)
"""
    assert python(code) == 'tracing the tracing decorator needs an extra: pip install "msgviz[tracing]"'


@pytest.mark.parametrize("wrong", ["", 3, True, b"kafka"])
def test_wrong_options(wrong: Any) -> None:
    for option in ("system", "span_name"):
        for make, what in ((tracing.encoder, Kept()), (tracing.decoder, accept)):
            with pytest.raises(TypeError, match=option):
                make(what, **{option: wrong})
    with pytest.raises(ValueError, match="join"):
        tracing.decoder(accept, join=wrong)
