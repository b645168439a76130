"""OpenCensus' binary format of a trace context, as go-msg's ``decorators/tracing`` puts it in an attribute.

Source: opencensus-specs, ``encodings/BinaryEncoding.md``; what is read is what opencensus-go's
``propagation.FromBinary`` reads, what is written is what its ``Binary`` writes, byte for byte.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from typing import NamedTuple


class Context(NamedTuple):
    """A trace id of 128 bits, a span id of 64 bits, both not 0, and whether the span is sampled."""

    trace_id: int
    span_id: int
    sampled: bool


def encode(context: Context) -> str:
    """A context as base64 of the binary format, 29 bytes."""
    return b64encode(
        b"\0\0%b\1%b\2%c"
        % (context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"), context.sampled)
    ).decode("ascii")


def decode(text: str) -> Context | None:
    """The context behind base64 of the binary format; None where there is none, or it is not valid.

    Fields come in the order of their numbers; what follows the first unknown one is ignored.
    """
    try:
        # As Go's decoder: line breaks do not count.
        data = b64decode(text.translate({10: None, 13: None}).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    if len(data) < 18 or data[:2] != b"\0\0":  # version 0, then the trace id, which go-msg wants first
        return None
    trace_id, data = int.from_bytes(data[2:18], "big"), data[18:]
    span_id = options = 0
    if len(data) >= 9 and data[0] == 1:
        span_id, data = int.from_bytes(data[1:9], "big"), data[9:]
    if len(data) >= 2 and data[0] == 2:
        options = data[1]
    return Context(trace_id, span_id, bool(options & 1)) if trace_id and span_id else None
