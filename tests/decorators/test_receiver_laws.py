"""The laws, for each decorator of receivers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgviz as mv
from msgviz.decorators import (
    circuit_breaker,
    dead_letter,
    deduplicate,
    ignore_errors,
    retry,
    throttle,
    timeout,
    transactional,
    validate,
    with_options,
)
from tests.decorators import clock, laws
from tests.flows import Kept, accept

DECODERS: dict[str, Any] = {
    "retry ×3": retry,  # noqa: RUF001
    "timeout 30 s": timeout,
    "dead_letter kept": with_options(dead_letter, topic=Kept()),
    "deduplicate": deduplicate,
    "throttle 1e+06/s": with_options(throttle, rate=1e6, burst=100),
    "circuit_breaker": circuit_breaker,
    "ignore_errors": ignore_errors,
    "transactional": transactional,
    "validate": with_options(validate, schema={"not": {"const": "no body"}}),
}
ENCODERS = {name: DECODERS[name] for name in ("transactional", "validate")}
TRANSPARENT = [name for name in DECODERS if name not in ("dead_letter kept", "ignore_errors")]

json_messages = laws.deliveries(laws.json_bodies.map(lambda value: json.dumps(value).encode()))
some = settings(max_examples=40)


@pytest.mark.parametrize("name", DECODERS)
@given(message=json_messages)
@some
def test_hands_on_what_came(name: str, message: mv.Message) -> None:
    clock.run(laws.hands_on_what_came(DECODERS[name], message))


@pytest.mark.parametrize("name", TRANSPARENT)
@given(message=json_messages)
@some
def test_raises_what_the_receiver_raises(name: str, message: mv.Message) -> None:
    clock.run(laws.raises_what_the_receiver_raises(DECODERS[name], message))


@pytest.mark.parametrize("name", DECODERS)
def test_lets_cancellation_through(name: str) -> None:
    clock.run(laws.lets_cancellation_through(DECODERS[name], laws.delivered()))


@pytest.mark.parametrize("name", TRANSPARENT)
def test_leaves_the_receivers_own_timeout_alone(name: str) -> None:
    clock.run(laws.leaves_the_receivers_own_timeout_alone(DECODERS[name], laws.delivered()))


@pytest.mark.parametrize("name", DECODERS)
def test_takes_many_at_once(name: str) -> None:
    clock.run(laws.takes_many_at_once(DECODERS[name]))


@pytest.mark.parametrize("name", DECODERS)
async def test_decorates_plain_functions(name: str) -> None:
    await laws.decorates_plain_functions(DECODERS[name])


@pytest.mark.parametrize("name", DECODERS)
def test_shows_its_layer(name: str) -> None:
    laws.shows_its_layer(DECODERS[name], name)


@pytest.mark.parametrize("name", DECODERS)
def test_wraps_a_receiver(name: str) -> None:
    decorated = DECODERS[name].decoder(accept)
    assert decorated.next is accept
    with pytest.raises(TypeError, match="a receiver is a callable"):
        DECODERS[name].decoder(Kept())


@pytest.mark.parametrize("name", ENCODERS)
@given(message=json_messages, delay=st.floats(0, 1e6))
@some
def test_sends_what_was_published(name: str, message: mv.Message, delay: float) -> None:
    clock.run(laws.sends_what_was_published(ENCODERS[name], message, delay))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    "law", [laws.forwards_the_delay, laws.raises_what_the_topic_raises, laws.lets_a_publish_be_cancelled]
)
def test_laws_of_topics(name: str, law: Any) -> None:
    clock.run(law(ENCODERS[name]))


@pytest.mark.parametrize(
    ("module", "name", "value", "error"),
    [
        (retry, "attempts", 0, ValueError),
        (retry, "attempts", 1.5, TypeError),
        (retry, "attempts", True, TypeError),
        (retry, "first", -1, ValueError),
        (retry, "first", "1", TypeError),
        (retry, "factor", 0.5, ValueError),
        (retry, "factor", float("nan"), ValueError),
        (retry, "maximum", float("inf"), ValueError),
        (retry, "jitter", 1.1, ValueError),
        (retry, "jitter", None, TypeError),
        (timeout, "seconds", 0, ValueError),
        (timeout, "seconds", None, TypeError),
        (dead_letter, "topic", "orders", TypeError),
        (deduplicate, "key", 3, TypeError),
        (deduplicate, "key", "", ValueError),
        (deduplicate, "size", 0, ValueError),
        (deduplicate, "seconds", 0, ValueError),
        (throttle, "rate", 0, ValueError),
        (throttle, "rate", -1, ValueError),
        (throttle, "rate", float("inf"), ValueError),
        (circuit_breaker, "failures", 0, ValueError),
        (circuit_breaker, "seconds", -1, ValueError),
        (ignore_errors, "types", (), ValueError),
        (ignore_errors, "types", BaseException, TypeError),
        (ignore_errors, "types", (ValueError, "KeyError"), TypeError),
        (validate, "schema", "{}", TypeError),
    ],
)
def test_a_wrong_option_is_named(module: Any, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        module.decoder(accept, **{name: value})


def test_a_wrong_option_beside_a_required_one() -> None:
    with pytest.raises(ValueError, match="after is a whole number from 1 on, not 0"):
        dead_letter.decoder(accept, topic=Kept(), after=0)
    with pytest.raises(ValueError, match="burst is a whole number from 1 on, not 0"):
        throttle.decoder(accept, rate=1, burst=0)


@pytest.mark.parametrize(
    ("name", "library"), [("retry", "tenacity"), ("validate", "jsonschema"), ("timeout", "tenacity")]
)
def test_a_library_that_is_missing(name: str, library: str) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"import msgviz\n"
        f"try:\n    from msgviz.decorators import {name}\n"
        f"except msgviz.MissingExtra as error:\n    print(error)\n"
        f"else:\n    print('there')\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    wanted = f'the {name} decorator needs an extra: pip install "msgviz[{name}]"'
    assert told.strip() == ("there" if name == "timeout" else wanted)
