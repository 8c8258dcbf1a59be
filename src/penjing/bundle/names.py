"""Which names a member of a tray may have.

A tray is a zip, so any unzip program may extract it on any system. Names are therefore relative paths of plain ASCII
components that cannot climb out of a folder, hide (leading dot), look like an option (leading dash), lose characters on
some systems (trailing dot), or fall on one another where letter case is ignored.
"""

import re
from collections.abc import Iterable

COMPONENT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?")
# C0 except tab and newline, DEL, C1: they would drive the terminal that prints them. Then lone surrogates.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
MAX_LINE = 400  # characters
_RULE = "use ASCII letters, digits and '_ . + -'; no dot or dash first, no dot last"


def component_fault(text: str) -> str | None:
    """Why `text` cannot be one path component (a model, variant, target or file name); None when it can."""
    if COMPONENT.fullmatch(text) is None:
        return f"{text[:80]!a} is not a plain name: {_RULE}"
    return None


def member_name_fault(name: str, max_bytes: int) -> str | None:
    """Why `name` cannot name a member; None when it can. `max_bytes` bounds its length."""
    if len(name) > max_bytes:
        return f"a member name of {len(name)} bytes is longer than {max_bytes}"
    faults = (component_fault(part) for part in name.split("/"))
    bad = next((fault for fault in faults if fault is not None), None)
    return None if bad is None else f"member name {name!a} is refused: its part {bad}"


def collision_fault(names: Iterable[str]) -> str | None:
    """Why these names cannot be extracted side by side: twice the same, alike but for case, or file and folder."""
    seen: dict[str, str] = {}
    for name in names:
        folded = name.casefold()
        if folded in seen:
            return f"members {seen[folded]!a} and {name!a} have the same name"
        seen[folded] = name
    for folded, name in seen.items():
        parts = folded.split("/")
        for depth in range(1, len(parts)):
            file = seen.get("/".join(parts[:depth]))
            if file is not None:
                return f"member {file!a} is also the folder of {name!a}"
    return None


def line_fault(text: str) -> str | None:
    """Why `text` cannot be a name in tables, logs and errors, where a second line could pretend to be another."""
    if not 1 <= len(text) <= MAX_LINE or set(text) & set("\n\t") or UNPRINTABLE.search(text):
        return f"a name must be one line of 1 to {MAX_LINE} characters"
    return None
