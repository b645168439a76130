"""tracing: how the context of a span travels; the vectors are those of `tests.decorators.spans`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from msgviz.decorators import _opencensus
from tests.decorators.spans import (
    OC_EXAMPLE,
    OC_GO,
    OC_IDS,
    W3C_IDS,
    W3C_NOT_SAMPLED,
    W3C_PARENT,
    W3C_STATE,
    Spans,
    ids,
    parent_ids,
    receive,
    text,
)
from tests.flows import Kept


@pytest.fixture
def spans() -> Spans:
    return Spans()


# -- what is written


async def test_both_formats_are_written_with_the_same_context(spans: Spans) -> None:
    kept = Kept("orders")
    state = trace.TraceState.from_header([W3C_STATE])
    caller = trace.NonRecordingSpan(trace.SpanContext(*W3C_IDS, True, trace.TraceFlags(1), state))
    with trace.use_span(caller):
        await spans.chain().encoder(kept).publish(b"x", attributes={"k": "v"})
        await spans.chain(opencensus=False).encoder(kept).publish(b"x")
    first, second = spans.all
    trace_id, span_id = ids(first)
    assert trace_id == W3C_IDS[0]
    assert kept.sent[0].attributes == {
        "k": "v",
        "Traceparent": f"00-{trace_id:032x}-{span_id:016x}-01",
        "Tracestate": W3C_STATE,
        "Tracecontext": text(
            b"\0\0" + trace_id.to_bytes(16, "big") + b"\1" + span_id.to_bytes(8, "big") + b"\2\1"
        ),
    }
    assert set(kept.sent[1].attributes) == {"Traceparent", "Tracestate"}
    assert kept.sent[1].attributes["Traceparent"] == f"00-{trace_id:032x}-{ids(second)[1]:016x}-01"


async def test_what_is_not_sampled_says_so() -> None:
    spans = Spans(sampler=ALWAYS_OFF)
    kept = Kept()
    await spans.chain().encoder(kept).publish(b"x")
    wire = kept.sent[0].attributes
    assert not int(wire["Traceparent"][-2:], 16) & 1  # newer SDKs set another bit
    context = _opencensus.decode(wire["Tracecontext"])
    assert context is not None
    assert not context.sampled
    assert spans.all == []
    await receive(spans.chain(), wire.to_dict())


async def test_nothing_of_an_older_context_is_left(spans: Spans) -> None:
    kept = Kept()
    old = {"Traceparent": W3C_PARENT, "Tracestate": W3C_STATE, "Tracecontext": text(OC_EXAMPLE)}
    with spans.tracer.start_as_current_span("forward") as forward:
        await spans.chain(opencensus=False).encoder(kept).publish(b"x", attributes=old)
    assert set(kept.sent[0].attributes) == {"Traceparent"}
    assert f"{ids(forward)[0]:032x}" in kept.sent[0].attributes["Traceparent"]


async def test_what_is_sent_again_stays_in_its_trace(spans: Spans) -> None:
    kept = Kept()
    await (
        spans.chain()
        .encoder(kept)
        .publish(b"x", attributes={"Traceparent": W3C_PARENT, "Tracestate": W3C_STATE})
    )
    assert parent_ids(spans.all[0]) == W3C_IDS
    assert kept.sent[0].attributes["Tracestate"] == W3C_STATE
    await spans.chain().encoder(kept).publish(b"x", attributes={"Traceparent": "unsound"})
    assert parent_ids(spans.all[1]) is None
    assert kept.sent[1].attributes["Traceparent"] != "unsound"


# -- what is read


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"Traceparent": W3C_PARENT}, W3C_IDS),
        ({"traceparent": W3C_PARENT, "tracestate": W3C_STATE}, W3C_IDS),
        ({"Traceparent": "01" + W3C_PARENT[2:] + "-of-a-later-version"}, W3C_IDS),
        ({"Tracecontext": text(OC_EXAMPLE)}, OC_IDS),
        ({"Tracecontext": text(OC_EXAMPLE + b"\x07of a later version")}, OC_IDS),
        ({"Tracecontext": text(OC_EXAMPLE), "Tracestate": W3C_STATE}, OC_IDS),
        ({"Tracecontext": text(OC_EXAMPLE), "Tracestate": "no state"}, OC_IDS),
        ({"Tracecontext": "\r\n".join(text(OC_EXAMPLE))}, OC_IDS),  # as Go's decoder
        ({"Traceparent": W3C_PARENT, "Tracecontext": text(OC_EXAMPLE)}, W3C_IDS),
        ({"Traceparent": "unsound", "Tracecontext": text(OC_EXAMPLE)}, None),  # as go-msg
        ({"Traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"}, None),
        ({"Traceparent": "ff" + W3C_PARENT[2:]}, None),
        ({"Traceparent": W3C_PARENT + "-more"}, None),
        ({"Traceparent": ["unsound", W3C_PARENT]}, None),
        ({"Tracestate": W3C_STATE}, None),
        ({"Tracecontext": "invalidcontext"}, None),  # these two are go-msg's own
        ({"Tracecontext": "YWJjMTIz"}, None),
        ({"Tracecontext": "★"}, None),
        ({"Tracecontext": text(OC_EXAMPLE)[:-1]}, None),
        ({"Tracecontext": text(b"\1" + OC_EXAMPLE[1:])}, None),
        ({"Tracecontext": text(OC_EXAMPLE[:17])}, None),
        ({"Tracecontext": text(OC_EXAMPLE[:18])}, None),  # no span
        ({"Tracecontext": text(b"\0" + OC_EXAMPLE[18:])}, None),  # no trace
        ({"Tracecontext": text(b"\0\0" + b"\0" * 16 + OC_EXAMPLE[18:])}, None),
        ({}, None),
    ],
)
async def test_the_context_of_a_message(
    spans: Spans, attributes: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    await receive(spans.chain(), attributes)
    (span,) = spans.all
    assert parent_ids(span) == expected
    state = W3C_STATE if {key.lower() for key in attributes} >= {"tracestate"} and expected else ""
    if attributes.get("Tracestate") == "no state":
        state = ""
    assert span.get_span_context().trace_state.to_header() == state


@pytest.mark.parametrize("carrier", [{"Traceparent": W3C_PARENT}, {"Tracecontext": text(OC_EXAMPLE)}])
async def test_a_state_that_is_too_long_is_left(spans: Spans, carrier: dict[str, Any]) -> None:
    longest = "a=" + "x" * 250 + ",b=" + "y" * 250
    for state, kept in ((longest, longest), (longest + ",c=12345678", "")):
        await receive(spans.chain(), {**carrier, "Tracestate": state})
        assert spans.all[-1].parent is not None
        assert spans.all[-1].get_span_context().trace_state.to_header() == kept


async def test_without_opencensus_it_is_not_read(spans: Spans) -> None:
    await receive(spans.chain(opencensus=False), {"Tracecontext": text(OC_EXAMPLE)})
    assert spans.all[0].parent is None


async def test_a_sender_that_does_not_sample_is_followed(spans: Spans) -> None:
    await receive(spans.chain(), {"Traceparent": W3C_NOT_SAMPLED})
    await receive(spans.chain(), {"Tracecontext": text(OC_EXAMPLE[:-1] + b"\0")})
    await receive(spans.chain(), {"Tracecontext": text(OC_EXAMPLE[:-2])})  # no options: not sampled
    assert spans.all == []
    await receive(spans.chain(join="link"), {"Tracecontext": text(OC_EXAMPLE[:-2])})
    assert [ids(link.context) for link in spans.all[0].links] == [OC_IDS]


@given(
    st.dictionaries(
        st.sampled_from(["Traceparent", "Tracestate", "Tracecontext", "Msgviz-Id"]),
        st.text(max_size=60)
        | st.binary(max_size=40).map(text)
        | st.lists(st.text("0123456789abcdef-", max_size=60), min_size=1, max_size=3)
        | st.sampled_from(
            [W3C_PARENT, W3C_STATE, text(OC_EXAMPLE), "a=1," * 300, f"c.{'m' * 999}.", "c.\ud800.", "c.m.p"]
        ),
    )
)
@settings(max_examples=200)
def test_no_context_keeps_a_message_from_going_on(attributes: dict[str, Any]) -> None:
    spans = Spans()

    async def run() -> None:
        calls: list[int] = []
        await receive(spans.chain(), attributes, lambda: calls.append(1))
        await receive(spans.chain(join="link"), attributes, lambda: calls.append(1))
        kept = Kept()
        await spans.chain().encoder(kept).publish(b"x", attributes=attributes)
        assert (len(calls), len(kept.sent)) == (2, 1)

    asyncio.run(run())
    values = [str(value) for span in spans.all for value in (span.attributes or {}).values()]
    assert all(len(value.encode()) < 300 for value in values)


# -- the binary format


def test_the_example_of_the_specification() -> None:
    context = _opencensus.Context(*OC_IDS, sampled=True)
    assert _opencensus.encode(context) == text(OC_EXAMPLE)
    assert _opencensus.decode(text(OC_EXAMPLE)) == context


def test_the_last_bit_of_the_options_alone_says_whether_it_is_sampled() -> None:
    for options, sampled in ((0, False), (1, True), (2, False), (255, True)):
        context = _opencensus.decode(text(OC_EXAMPLE[:-1] + bytes([options])))
        assert context == _opencensus.Context(*OC_IDS, sampled)


def test_the_example_of_opencensus_go() -> None:
    context = _opencensus.decode(text(OC_GO))
    assert context is not None
    assert f"{context.trace_id:032x}" == "404142434445464748494a4b4c4d4e4f"
    assert f"{context.span_id:016x}" == "6162636465666768"
    assert context.sampled
    assert _opencensus.encode(context) == text(OC_GO)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_any_context_comes_back(trace_id: int, span_id: int, sampled: bool) -> None:
    context = _opencensus.Context(trace_id, span_id, sampled)
    assert _opencensus.decode(_opencensus.encode(context)) == context
