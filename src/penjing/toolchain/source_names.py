"""What a source file of a build may be called: nothing that leaves the folder, is an option, or ends a string."""

import re

from penjing.core.errors import InvalidInput

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


def check_source_name(name: str) -> None:
    """Raise InvalidInput unless `name` is a relative path of plain names."""
    if _PLAIN.fullmatch(name) is None:
        raise InvalidInput(
            f"the source name {name[:80]!r} is refused",
            hint="use relative names of letters, digits and '_ . + -', with '/' between folders",
        )
