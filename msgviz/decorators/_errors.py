"""What the receivers' decorators share: an error in few words."""

from __future__ import annotations

_LONGEST = 200


def told(error: BaseException) -> str:
    """The class of an error and its text, of bounded length. Keeps nothing alive that its frames refer to."""
    text = type(error).__name__
    try:
        text = f"{text}: {error}"
    except Exception:  # noqa: BLE001  an error whose own __str__ fails has still a name
        return text
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
