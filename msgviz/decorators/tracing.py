"""tracing: an OpenTelemetry span for each publish and each receive, joined through the message.

As go-msg's ``decorators/otel/tracing``, which reads what this writes and writes what this reads: the
context travels as W3C Trace Context in ``Traceparent`` and ``Tracestate``, and in OpenCensus' binary
format in ``Tracecontext``. A context that is not sound is ignored. Names and attributes of spans are those
of OpenTelemetry's semantic conventions for messaging. Nothing global is changed; without an
OpenTelemetry SDK, a context that is there passes on, and no span is made.

Unlike go-msg's, a span does not carry the attributes of its message, which may hold what is nobody's
business, and a message with ``Tracecontext`` and ``Tracestate`` only is understood.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from msgviz.attributes import Attributes
from msgviz.decorators import _opencensus
from msgviz.errors import MissingExtra
from msgviz.message import Message
from msgviz.receiver import Receiver, ReceiverDecorator
from msgviz.topic import Topic, TopicDecorator

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import Getter, Setter
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise MissingExtra("the tracing decorator", "tracing") from error

_PARENT, _STATE, _BINARY = "Traceparent", "Tracestate", "Tracecontext"
_ID = "Msgviz-Id"
_LONGEST_STATE = 512  # characters; W3C wants at least as many passed on, go-msg passes no more
_LONGEST_ID = 200
_W3C = TraceContextTextMapPropagator()


def encoder(
    topic: Topic,
    *,
    system: str | None = None,
    span_name: str | None = None,
    opencensus: bool = True,
    tracer_provider: trace.TracerProvider | None = None,
) -> Topic:
    """A topic that makes a producer span of every publish, and sends its context along.

    Its parent is the span of the caller; where there is none, the one whose context the message carries,
    so that what is sent again stays in its trace. `system` is OpenTelemetry's name of the messaging
    system: ``rabbitmq``, ``kafka``, ``aws.sns``, ``aws_sqs``, ``gcp_pubsub``, or another. `span_name`
    is ``send <topic>`` where nothing is given. `opencensus` writes ``Tracecontext`` too. The tracer is of
    `tracer_provider`, or of the one that is set globally when a message is sent.
    """
    return Encoder(
        topic, system=system, span_name=span_name, opencensus=opencensus, tracer_provider=tracer_provider
    )


def decoder(
    receiver: Receiver,
    *,
    system: str | None = None,
    span_name: str | None = None,
    opencensus: bool = True,
    join: str = "parent",
    tracer_provider: trace.TracerProvider | None = None,
) -> Receiver:
    """A receiver that runs in a consumer span, joined to the one whose context the message carries.

    `join` is how: "parent" makes it a child of that span, as go-msg does; "link" begins from the span of
    the caller, or a new trace, and links to it. `opencensus` reads ``Tracecontext`` of a message without
    ``Traceparent``. `span_name` is ``process <topic>`` where nothing is given. The others are as
    for the `encoder`.
    """
    return Decoder(
        receiver,
        system=system,
        span_name=span_name,
        opencensus=opencensus,
        join=join,
        tracer_provider=tracer_provider,
    )


class Encoder(TopicDecorator):
    """Makes a producer span of every publish."""

    layer = "tracing"

    def __init__(
        self,
        next: Topic,
        *,
        system: str | None = None,
        span_name: str | None = None,
        opencensus: bool = True,
        tracer_provider: trace.TracerProvider | None = None,
    ) -> None:
        super().__init__(next)
        self.opencensus = opencensus
        self._span_name = _text(span_name, "span_name") or f"send {self.name}"
        self._provider = tracer_provider
        self._attributes = _common("send", _text(system, "system"))
        self._attributes["messaging.destination.name"] = self.name

    async def send(self, message: Message, delay: float) -> None:
        """Send the message on in a span, with its context."""
        parent = _context_of(trace.get_current_span()) or extract(message.attributes)
        span = _tracer(self._provider).start_span(
            self._span_name,
            context=_around(parent),
            kind=trace.SpanKind.PRODUCER,
            attributes=self._attributes | _of(message),
        )
        with _ending(span, parent) as span:
            message = message.with_body(message.body)
            inject(message.attributes, span.get_span_context(), opencensus=self.opencensus)
            await self.next.send(message, delay)


class Decoder(ReceiverDecorator):
    """Runs the receiver in a consumer span."""

    layer = "tracing"

    def __init__(
        self,
        next: Receiver,
        *,
        system: str | None = None,
        span_name: str | None = None,
        opencensus: bool = True,
        join: str = "parent",
        tracer_provider: trace.TracerProvider | None = None,
    ) -> None:
        super().__init__(next)
        if join not in ("parent", "link"):
            raise ValueError(f'join is "parent" or "link", not {join!r}')
        self.join = join
        self.opencensus = opencensus
        self._span_name = _text(span_name, "span_name")
        self._provider = tracer_provider
        self._attributes = _common("process", _text(system, "system"))

    async def __call__(self, message: Message) -> None:
        """Hand the message on, in a span."""
        sender = extract(message.attributes, opencensus=self.opencensus)
        attributes = self._attributes | _of(message)
        name = "process"
        if message.source is not None:
            name = f"process {message.source.topic}"
            attributes["messaging.destination.name"] = message.source.topic
            attributes["messaging.destination.subscription.name"] = message.source.subscription
        parent, links = _context_of(trace.get_current_span()), []
        if sender is not None and self.join == "parent":
            parent = sender
        elif sender is not None:
            links = [trace.Link(sender)]
        span = _tracer(self._provider).start_span(
            self._span_name or name,
            context=_around(parent),
            kind=trace.SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
        )
        with _ending(span, parent):
            await self.receive(message)


def inject(attributes: Attributes, context: trace.SpanContext, *, opencensus: bool = True) -> None:
    """Write a span's context; nothing where it is not valid. None of an older one is left."""
    if not context.is_valid:
        return
    for key in (_PARENT, _STATE, _BINARY):
        attributes.pop(key, None)
    # Of the context given, and of nothing that is around it.
    _W3C.inject(attributes, trace.set_span_in_context(trace.NonRecordingSpan(context), Context()), _INTO)
    if opencensus:
        old = _opencensus.Context(context.trace_id, context.span_id, context.trace_flags.sampled)
        attributes[_BINARY] = _opencensus.encode(old)


def extract(attributes: Attributes, *, opencensus: bool = True) -> trace.SpanContext | None:
    """The context a message carries; None where there is none, or it is not sound.

    W3C's where there is a ``Traceparent``, sound or not, as in go-msg; else OpenCensus'.
    """
    if _PARENT in attributes:
        return _context_of(trace.get_current_span(_W3C.extract(attributes, Context(), _FROM)))
    old = _opencensus.decode(attributes.get(_BINARY, "")) if opencensus else None
    if old is None:
        return None
    return trace.SpanContext(
        old.trace_id,
        old.span_id,
        is_remote=True,
        trace_flags=trace.TraceFlags(old.sampled),
        trace_state=trace.TraceState.from_header(_state(attributes)),
    )


def _state(attributes: Attributes) -> list[str]:
    values = attributes.get_all(_STATE)
    return values if sum(map(len, values)) <= _LONGEST_STATE else []


class _FromAttributes(Getter[Attributes]):
    def get(self, carrier: Attributes, key: str) -> list[str] | None:
        return (_state(carrier) if key.title() == _STATE else carrier.get_all(key)) or None

    def keys(self, carrier: Attributes) -> list[str]:
        return list(carrier)


class _IntoAttributes(Setter[Attributes]):
    def set(self, carrier: Attributes, key: str, value: str) -> None:
        carrier[key] = value


_FROM, _INTO = _FromAttributes(), _IntoAttributes()


def _around(parent: trace.SpanContext | None) -> Context | None:
    """The context to start a span in, so that this is its parent; None for the one that is."""
    current = trace.get_current_span().get_span_context()
    if parent is None or parent == current:
        return None
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))


def _context_of(span: trace.Span) -> trace.SpanContext | None:
    context = span.get_span_context()
    return context if context.is_valid else None


def _tracer(provider: trace.TracerProvider | None) -> trace.Tracer:
    return trace.get_tracer("msgviz.decorators.tracing", tracer_provider=provider)


def _common(operation: str, system: str | None) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
    }
    if system is not None:
        attributes["messaging.system"] = system
    return attributes


def _of(message: Message) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"messaging.message.body.size": len(message.body)}
    _, _, rest = message.attributes.get(_ID, "").partition(".")  # <conversation>.<message>.<parent>
    message_id = rest.partition(".")[0]
    if message_id and len(message_id) <= _LONGEST_ID and message_id.isascii() and message_id.isprintable():
        attributes["messaging.message.id"] = message_id
    return attributes


@contextmanager
def _ending(span: trace.Span, parent: trace.SpanContext | None) -> Iterator[trace.Span]:
    """Make a span the current one; end it, and say on it what went wrong."""
    if parent is not None and not span.get_span_context().is_valid:
        span = trace.NonRecordingSpan(parent)  # no SDK: older APIs do not pass the parent on
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except BaseException as error:
        kind = type(error)
        builtin = kind.__module__ == "builtins"
        span.set_attribute(
            "error.type", kind.__qualname__ if builtin else f"{kind.__module__}.{kind.__qualname__}"
        )
        text = kind.__name__
        with suppress(Exception):  # an error whose own __str__ fails is still one
            text = str(error) or text
            if not isinstance(error, asyncio.CancelledError):
                span.record_exception(error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, text))
        raise
    finally:
        span.end()


def _text(value: str | None, option: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError(f"{option} is a text that is not empty, or None, not {value!r}")
    return value
