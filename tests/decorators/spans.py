"""What the tests of the tracing decorator share: spans of one test, and vectors.

The vectors are made from the specifications: the ``traceparent`` and ``tracestate`` examples of W3C Trace
Context (level 1, sections 3.2 and 3.3), the valid example of opencensus-specs'
``encodings/BinaryEncoding.md``, and the example of opencensus-go's ``trace/propagation``. None was
recorded from go-msg.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import msgviz as mv
from msgviz.decorators import tracing, with_options

W3C_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
W3C_NOT_SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
W3C_STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
W3C_IDS = (0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
OC_EXAMPLE = bytes(
    [0,
     0, 75, 249, 47, 53, 119, 179, 77, 166, 163, 206, 146, 157, 0, 14, 71, 54,
     1, 52, 240, 103, 170, 11, 169, 2, 183,
     2, 1]
)  # fmt: skip
OC_IDS = (0x4BF92F3577B34DA6A3CE929D000E4736, 0x34F067AA0BA902B7)
OC_GO = bytes([0, 0, *range(64, 80), 1, *range(97, 105), 2, 1])


def text(binary: bytes) -> str:
    return b64encode(binary).decode()


class Spans:
    """A tracer provider of one test, and what it has exported."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def chain(self, **options: Any) -> Any:
        return with_options(tracing, tracer_provider=self.provider, **options)

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def of(self, kind: trace.SpanKind) -> ReadableSpan:
        (span,) = [span for span in self.all if span.kind is kind]
        return span


def ids(span: Any) -> tuple[int, int]:
    context = span.get_span_context() if hasattr(span, "get_span_context") else span
    return context.trace_id, context.span_id


def parent_ids(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


async def receive(chain: Any, attributes: dict[str, Any], act: Callable[[], object] = lambda: None) -> None:
    """Deliver a message with these attributes through the decorator."""

    async def inner(message: mv.Message) -> None:
        act()

    message = mv.Message(b"body", attributes)
    message.source = mv.Source("orders", "billing", 5)
    await chain.decoder(inner)(message)
