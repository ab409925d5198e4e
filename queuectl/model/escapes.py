"""JSON that is safe on a terminal: DEL, C1 controls and marks that reorder text are escaped."""

from __future__ import annotations

_ESCAPED = {
    code: f"\\u{code:04x}"
    for codes in (range(0x7F, 0xA0), (0x2028, 0x2029), range(0x202A, 0x202F), range(0x2066, 0x206A))
    for code in codes
}


def terminal_safe(text: str) -> str:
    """Escape the characters of a JSON text that a terminal obeys; json escapes those below 32."""
    return text if text.isascii() and "\x7f" not in text else text.translate(_ESCAPED)
