"""Cells of tables as numbers, truths or text: what pandas, arrow, torch and spreadsheets write for a number.

A column becomes numbers only where every cell is one and holds it exactly; one that is not certain stays text.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

_WHOLE = r"[+-]?\d+"
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
_LEADING_ZERO = r"[+-]?0\d+"
_MISSING = ["na", "n/a", "n.a.", "nan", "-nan", "none", "null", "nil", "nat", "<na>", "#n/a", "#na", "-", "--", "?"]
_MISSING += ["missing", "undefined", "#div/0!", "#value!", "#num!", "#ref!", "1.#qnan", "-1.#ind", "1.#ind", "(null)"]
# Also where the rest are no numbers.
_MISSING_TEXT = ["NA", "NULL", "null", "None", "<NA>", "N/A", "#N/A", "NaN", "nan"]
_WRAPPED = re.compile(
    r"(?:(?:torch|np|numpy|tf|jnp|jax)\.)?(?:tensor|array|scalar|u?int\d*|float\d*|bfloat16)"
    r"\(\s*\[*\s*(?P<inner>[^\s\[\],()]+)\s*\]*\s*(?:,\s*\w+\s*=[^()]*(?:\([^()]*\)[^()]*)*)?\)",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"[+-]?\d{1,3}([\u0020\u00a0\u202f\u2009'\u2019]\d{3})+(\.\d+)?")
_COMMA_DECIMAL = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d*),\d+([eE][+-]?\d+)?")
_COMMA_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_DOT_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
_DOT_DECIMAL = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_MOST_EXACT = 2**53  # whole numbers up to which float64 holds every one


@dataclass(frozen=True)
class Typed:
    """A column with its type."""

    values: pa.ChunkedArray  # int64, uint64, float64, bool or text; null where a cell says that there is no value
    how: str = ""  # what was done to its cells, or why they stayed text


def decimal_sign(columns: Iterable[pa.ChunkedArray]) -> str:
    """Return the sign before decimals that the cells of a table show: "." or ",", or "" where they show both."""
    has_comma = has_dot = False
    for column in columns:
        with_sign = pc.unique(column.filter(pc.match_substring_regex(column, r"^[+-]?[\d.]*[.,][\d.,]*\d%?$")))
        for cell in with_sign.to_pylist():
            text = cell.removesuffix("%")
            has_comma |= bool(_COMMA_DECIMAL.fullmatch(text)) and not _COMMA_GROUPS.fullmatch(text)
            has_dot |= bool(_DOT_DECIMAL.fullmatch(text)) and not _DOT_GROUPS.fullmatch(text)
    return "" if has_comma and has_dot else "," if has_comma else "."


def typed(cells: pa.ChunkedArray, *, decimal: str) -> Typed:
    """Return a column of trimmed text with its type.

    Args:
        cells: the text, null where empty.
        decimal: the sign before decimals; see `decimal_sign`.
    """
    is_missing = pc.fill_null(pc.is_in(pc.utf8_lower(cells), pa.array(_MISSING)), False)
    values = pc.if_else(is_missing, pa.scalar(None, pa.string()), cells) if pc.any(is_missing).as_py() else cells
    if values.null_count == len(values):
        return Typed(values)
    if _all(values, _WHOLE):
        if pc.any(pc.match_substring_regex(values, f"^{_LEADING_ZERO}$")).as_py():
            return Typed(values, "numbers that begin with 0 stay text")
        plain = pc.replace_substring_regex(values, r"^\+", "")
        for kind in (pa.int64(), pa.uint64()):
            try:
                return Typed(plain.cast(kind))
            except pa.ArrowInvalid:
                continue
        return Typed(values, "whole numbers beyond 64 bits stay text")
    lower = pc.utf8_lower(values)
    if pc.all(pc.is_in(lower, pa.array(["true", "false"]))).as_py():
        return Typed(pc.equal(lower, "true"))
    numbers, how = _numbers(values, decimal=decimal)
    if numbers is not None:
        return Typed(numbers, how)
    as_text = pc.is_in(cells, pa.array(_MISSING_TEXT))  # "none" may be the name of an activation
    return Typed(pc.if_else(pc.fill_null(as_text, False), pa.scalar(None, pa.string()), cells), how)


def _all(values: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, f"^(?:{pattern})$")).as_py())


def _numbers(values: pa.ChunkedArray, *, decimal: str) -> tuple[pa.ChunkedArray | None, str]:
    """Return a column as float64 and how its cells were read; None and why, where a cell is no certain number."""
    known: dict[str, tuple[float, str]] = {}
    stray = None
    for cell in pc.unique(values).to_pylist():
        if cell is not None:
            reading = number(cell, decimal=decimal)
            if reading is None:
                stray = stray or cell
            else:
                known[cell] = reading
    if stray is not None:
        return None, f"text, since {stray[:40]!r} is no certain number" if known else ""
    wide = next((cell for cell in known if re.fullmatch(_WHOLE, cell) and abs(int(cell)) > _MOST_EXACT), None)
    if wide is not None:
        return None, f"text, since float64 cannot hold {wide} exactly"
    beyond = next((cell for cell, (value, _) in known.items() if math.isinf(value) and "inf" not in cell.lower()), None)
    if beyond is not None:
        return None, f"text, since {beyond[:40]!r} is beyond float64's range"
    ways = dict.fromkeys(way for _, way in known.values() if way)
    if "per cent" in ways and any(way != "per cent" for _, way in known.values()):
        return None, "text, since only some cells have a sign of per cent"
    numbers = [None if cell is None else known[cell][0] for cell in values.to_pylist()]
    return pa.chunked_array([pa.array(numbers, pa.float64())]), ", ".join(ways)


def number(cell: str, *, decimal: str) -> tuple[float, str] | None:
    """Return the number that a cell certainly says and what is unusual about how it does; None if there is none.

    >>> number("tensor(0.91, device='cuda:0')", decimal=".")
    (0.91, 'tensor(...)')
    >>> number("91,5%", decimal=",")
    (0.915, 'per cent')
    >>> number("1,234", decimal="")  # a thousand, or a little more than one?
    """
    text = cell.strip().replace("\u2212", "-")
    if _PLAIN.fullmatch(text):
        if decimal == "," and _DOT_GROUPS.fullmatch(text):
            return None
        return float(text), ""
    if match := _WRAPPED.fullmatch(text):
        inner = match["inner"]
        return (float(inner), f"{text.partition('(')[0]}(...)") if _PLAIN.fullmatch(inner) else None
    if text.endswith("%"):
        inside = number(text.removesuffix("%"), decimal=decimal)
        return None if inside is None or "%" in text[:-1] else (float(f"{inside[0]!r}e-2"), "per cent")
    if _GROUPED.fullmatch(text):
        return float(re.sub(r"[^\d.+-]", "", text)), "thousands apart"
    dot, comma = text.rfind("."), text.rfind(",")
    if _COMMA_GROUPS.fullmatch(text) and (dot > comma or text.count(",") > 1):
        return float(text.replace(",", "")), "thousands apart"
    if _COMMA_DECIMAL.fullmatch(text) and (dot >= 0 or decimal == ","):
        return float(text.replace(".", "").replace(",", ".")), "decimal commas"
    if _DOT_GROUPS.fullmatch(text) and text.count(".") > 1:
        return float(text.replace(".", "")), "thousands apart"
    return None
