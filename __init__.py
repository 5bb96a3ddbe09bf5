"""Flowdeck: durable Python workflows on one machine, shown in the terminal."""
