"""URLs are read, checked, and shown without what is secret."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgviz.urls import read_url, switch, without_password

KNOWN = {"timeout": float, "create": switch}


def test_its_parts() -> None:
    url = read_url("nats://me:pass%2Fword@one:4222,two:4223/a%20b?timeout=2&create=no", KNOWN, {})
    assert (url.scheme, url.user, url.password, url.path) == ("nats", "me", "pass/word", "/a b")
    assert url.hosts == (("one", 4222), ("two", 4223))
    assert (url.host, url.port) == ("one", 4222)
    assert url.options == {"timeout": 2.0, "create": False}
    assert url.safe == "nats://me:***@one:4222,two:4223/a%20b"
    assert "pass" not in repr(url)


def test_options_beside_a_url_win() -> None:
    assert read_url("x://h?timeout=2", KNOWN, {"timeout": 3}).options == {"timeout": 3}


def test_a_url_without_a_host() -> None:
    url = read_url("aws://", KNOWN, {})
    assert (url.host, url.port, url.user, url.password) == ("", None, None, None)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("x://u:secret@h?tiemout=2", "no option 'tiemout'; there are create, timeout"),
        ("x://u:secret@h?timeout=soon", "timeout cannot be 'soon'"),
        ("x://u:secret@h?create=maybe", "create cannot be 'maybe': write true or false"),
        ("x://u:secret@h:port", "'h:port' is no host and port"),
        ("x://u:secret@h:99999", "'h:99999' is no host and port"),
    ],
)
def test_what_cannot_be_read_is_named_and_the_password_is_not(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        read_url(url, KNOWN, {})
    assert "secret" not in str(error.value)


def test_an_unknown_keyword() -> None:
    with pytest.raises(TypeError, match="no option replicas; there are create, timeout"):
        read_url("x://h", KNOWN, {"replicas": 3})


@given(user=st.text(min_size=1), password=st.text(min_size=12))
def test_no_password_is_ever_shown(user: str, password: str) -> None:
    login = f"{quote(user, safe='', errors='ignore')}:{quote(password, safe='', errors='ignore')}"
    url = f"amqp://{login}@host/v?key={quote(password, safe='', errors='ignore')}"
    assert without_password(url) == f"amqp://{login.partition(':')[0]}:***@host/v"
