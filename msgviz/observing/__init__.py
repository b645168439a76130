"""Observing: decorators that log every publish and receive, and the log they write to."""

from __future__ import annotations

from msgviz.observing.identity import ID_ATTRIBUTE
from msgviz.observing.recorder import Recorder
from msgviz.observing.wholes import observe

__all__ = ["ID_ATTRIBUTE", "Recorder", "observe"]
