"""How a project of Google Cloud Pub/Sub is named and connected to; no emulator is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import msgviz as mv
from msgviz.backends.gcp import wire
from tests.systems import free_port


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("gcp://", "project"),
        ("gcp://project/topic", "no path"),
        ("gcp://someone:secret@project", "no more"),
        ("gcp://project:80", "no more"),
        ("gcp://project?ack_deadline=9", "10 to 600"),
        ("gcp://project?ack_deadline=x", "ack_deadline"),
        ("gcp://project?subscription_name=billing", "subscription"),
        ("gcp://project?subscription_name={subscription}{x}", "subscription"),
        ("gcp://project?color=red", "color"),
    ],
)
def test_a_wrong_url_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        mv.connect(url)
    assert "secret" not in str(caught.value)


def test_no_two_names_are_one_in_pubsub() -> None:
    names = ["t", "msgviz.t", "msgviz.msgviz.t", "a b", "a%20b", "a+b", "abc", "Abc", "google", "goo"]
    assert len({wire.topic_resource(name) for name in names}) == len(names)
    places = [
        ("abc", "d.e"),
        ("abc.d", "e"),
        ("abc", "d%2Ee"),
        ("abc.d.e", "f"),
        ("abc", "d e"),
        ("abc", "d+e"),
    ]
    made = {wire.subscription_resource("{topic}.{subscription}", *place) for place in places}
    assert len(made) == len(places)
    assert wire.subscription_resource("{topic}.{subscription}", "orders", "billing") == "orders.billing"


async def test_nobody_is_there() -> None:
    began = time.monotonic()
    async with mv.connect(f"gcp://nobody?emulator=127.0.0.1:{free_port()}&timeout=2") as backend:
        with pytest.raises(mv.ConnectionFailed, match="gcp://nobody") as caught:
            await backend.topic("orders").publish(b"x")
    assert caught.value.__cause__ is not None
    assert time.monotonic() - began < 15


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return None


@pytest.mark.usefixtures("no_account")
async def test_without_an_account_it_says_what_to_do() -> None:
    async with mv.connect("gcp://project") as backend:
        assert backend.streaming  # type: ignore[attr-defined]
        with pytest.raises(mv.ConnectionFailed, match="gcloud auth application-default login") as caught:
            await backend.topic("orders").publish(b"x")
    assert type(caught.value.__cause__).__name__ == "DefaultCredentialsError"
