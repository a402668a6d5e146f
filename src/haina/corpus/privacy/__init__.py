"""Private data in text: found, typed, and replaced.

Comes in: text. Goes out: spans of e-mail addresses, phone numbers, identity cards, bank cards, credit codes, passports,
plates and network addresses, or the text with a placeholder for each. `folding` makes full-width forms plain,
`candidates` is the fast scan for places worth a look, `checksums` holds the arithmetic, `judge` the rules,
`rules.yaml` their data, `find` puts them together.
"""

from haina.corpus.privacy.find import (
    KINDS,
    PrivateSpan,
    PrivateSpans,
    find_private,
    find_private_packed,
    replace_private,
)

__all__ = ["KINDS", "PrivateSpan", "PrivateSpans", "find_private", "find_private_packed", "replace_private"]
