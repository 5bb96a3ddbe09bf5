"""Textual widgets on the line API; hold no data of the store."""
