"""Put measured tables into a page of the documentation, between two marks.

    python scripts/paste_tables.py docs/reference/world-models.md xwin=REPORT/tables.md ...

The page holds ``<!-- tables: xwin -->`` and ``<!-- end of xwin -->``; what stands between them is
replaced. Headings of the tables are lowered by two levels, so that they come below the page's own.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

_LOWER = 2


def pasted(page: str, name: str, tables: str) -> str:
    """The page with other tables under a name.

    Raises
    ------
    SystemExit
        If the page has no such marks.
    """
    first, last = f"<!-- tables: {name} -->", f"<!-- end of {name} -->"
    if page.count(first) != 1 or page.count(last) != 1:
        raise SystemExit(f"The page has no marks {first} and {last}.")
    before, _, rest = page.partition(first)
    _, _, after = rest.partition(last)
    lowered = re.sub(r"^(#+ )", "#" * _LOWER + r"\1", tables.strip(), flags=re.MULTILINE)
    return f"{before}{first}\n\n{lowered}\n\n{last}{after}"


def main() -> None:
    """Paste every table that the command names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("tables", nargs="+", metavar="NAME=FILE")
    given = parser.parse_args()
    page = given.page.read_text(encoding="utf-8")
    for text in given.tables:
        name, _, path = text.partition("=")
        page = pasted(page, name, Path(path).read_text(encoding="utf-8"))
    given.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
