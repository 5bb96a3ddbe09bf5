"""Flowdeck."""
