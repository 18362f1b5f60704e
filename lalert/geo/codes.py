"""Codes of municipalities and prefectures: JIS X 0401 and 0402 with the check digit of the Ministry of Internal Affairs."""

from __future__ import annotations

from typing import Final

from lalert.errors import InvalidCode

PREFECTURES: Final = 47

_FULL_WIDTH = str.maketrans("０１２３４５６７８９", "0123456789")
_WEIGHTS = (6, 5, 4, 3, 2)


def check_digit(code5: str) -> str:
    """Return the sixth digit that belongs to five: (11 - s mod 11) mod 10, where s weighs the digits by 6, 5, 4, 3, 2.

    Raises InvalidCode for anything but five digits.
    """
    if len(code5) != 5 or not _digits(code5):
        raise InvalidCode(f"{code5[:20]!r} is not five digits")
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, code5, strict=True))
    return str((11 - total % 11) % 10)


def normalise_code(text: str) -> str:
    """Return the one spelling of a code that the hub works with: 2 digits for a prefecture, else 6 with the check digit.

    Takes 2 digits (a prefecture), 5 (JIS X 0401 + 0402) or 6 (with the check digit), full-width ones too; `430005` and
    `43000` are the prefecture `43`. It does not ask whether such a municipality exists: towns merge, and a code that this
    hub does not know yet must still be carried. Raises InvalidCode with what is wrong and what it should be.
    """
    code = text.strip().translate(_FULL_WIDTH)
    if not _digits(code) or len(code) not in {2, 5, 6}:
        lost = f"; was a leading zero lost (0{code})?" if _digits(code) and len(code) in {1, 4} else ""
        raise InvalidCode(
            f"{text.strip()[:20]!r} is not a code: write 2 digits for a prefecture, 5 or 6 for a municipality{lost}"
        )
    prefecture, municipality = code[:2], code[2:5]
    if not 1 <= int(prefecture) <= PREFECTURES:
        raise InvalidCode(f"{code}: there is no prefecture {prefecture}, they run from 01 to {PREFECTURES}")
    if len(code) == 2:
        return code
    digit = check_digit(code[:5])
    if len(code) == 6 and code[5] != digit:
        raise InvalidCode(f"{code}: the check digit of {code[:5]} is {digit}, not {code[5]}")
    if municipality == "000":
        return prefecture
    # JIS X 0402 numbers municipalities from 100 on. A lower number is most often a 6-digit code of the first nine prefectures
    # whose leading zero a spreadsheet ate.
    if int(municipality) < 100:
        raise InvalidCode(
            f"{code}: {municipality} is no municipality number; was a leading zero lost (0{code})?"
        )
    return code[:5] + digit


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
