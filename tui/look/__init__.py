"""Colours, glyphs, cells."""
