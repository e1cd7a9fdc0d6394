"""The bit-widths that a patch can get: their one home. No torch here."""

BIT_WIDTHS = (4, 5, 6, 8)
"""Activation bit-widths of a patch (paper, section 3: GBC gives 4, 6, 8; E2B turns 8 into 4, 5 or 8)."""

FP32_BITS = 32
"""The bit-width that stands for the unquantized network."""
