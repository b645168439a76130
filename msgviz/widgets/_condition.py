"""What is wrong with the condition of a breakpoint, for the person who wrote it."""

from __future__ import annotations

import re
from difflib import get_close_matches

from msgviz.observing.breakpoints import CONDITION_FIELDS

_UNKNOWN = re.compile(r"^(?:local variable|name) '(.*?)' is not defined", re.DOTALL)
_NO_METHOD = re.compile(r"object has no attribute '(\w+)'")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_TEXT_METHODS = {"contains", "startswith", "endswith", "lower", "upper", "strip", "match", "len"}


def explain(condition: str, error: ValueError) -> str:
    """What to write instead, where the mistake is a known one; else what the error says."""
    code, said = _QUOTED.sub("''", condition), str(error)
    if not condition.strip():
        return "Write a condition, or nothing at all to hold every message."
    for wrong, right in (("&&", "and"), ("||", "or")):
        if wrong in code:
            return f"Write {right}, not {wrong}."
    if re.search(r"(?<![=!<>])=(?!=)", code):
        return "Compare with ==, not with =."
    if found := _UNKNOWN.search(said):
        return _no_such(found[1])
    if "KeyError" in said and "attributes[" in code:
        return "Write attributes.str['Source'] for the first value of the attribute Source."
    if found := _NO_METHOD.search(said):
        name = found[1]
        if name in _TEXT_METHODS:
            return f"Methods of a text come after .str: write text.str.{name}(…)."
        if re.search(rf"\battributes\.{name}\b", code):
            return f"Write attributes.str['{name}'] for the first value of the attribute {name}."
    if "Invalid comparison between" in said or "not supported between instances" in said:
        return "A number and a text cannot be compared: a text has quotes around it, a number has none."
    if "scalar only bool ops" in said:
        return "Each side of and, or is a whole comparison: text == 'a' or text == 'b'."
    if "not identifier" in said or "numexpr" in said:
        return "This is no expression: something is missing. Write one such as size > 100."
    return said.replace("for each event", "for a message")


def _no_such(name: str) -> str:
    name = name if len(name) <= 40 else f"{name[:39]}…"
    near = get_close_matches(name, CONDITION_FIELDS, 1, 0.6)
    hint = f"Did you mean {near[0]}?" if near else f"A text has quotes around it: '{name}'."
    return f"There is no {name}. {hint} There are {', '.join(CONDITION_FIELDS)}."
