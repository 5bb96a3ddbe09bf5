"""When flows run: pure values and next_after; no clock, no store, no threads."""
