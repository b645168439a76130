"""What the receivers' decorators share: options that are numbers, checked."""

from __future__ import annotations

import sys
from datetime import timedelta

from msgviz.topic import as_seconds


def whole(value: int, option: str) -> int:
    """A whole number from 1 on; `TypeError` or `ValueError` that names the option."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} is a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{option} is a whole number from 1 on, not {value!r}")
    return value


def number(value: float, option: str, least: float, most: float = sys.float_info.max) -> float:
    """A number from `least` to `most`; `TypeError` or `ValueError` that names the option."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{option} is a number, not {value!r}")
    if not least <= value <= most:
        upto = " on" if most == sys.float_info.max else f" to {most:g}"
        raise ValueError(f"{option} is a number from {least:g}{upto}, not {value!r}")
    return float(value)


def span(value: float | timedelta, option: str) -> float:
    """A time span in seconds, above 0; `TypeError` or `ValueError` that names the option."""
    seconds = as_seconds(value, option)
    if not seconds:
        raise ValueError(f"{option} is a number of seconds above 0, not {value!r}")
    return seconds
