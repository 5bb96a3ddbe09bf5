"""Colours, glyphs, styled text and cells: how things look, on whatever terminal; knows no screen and no store."""
