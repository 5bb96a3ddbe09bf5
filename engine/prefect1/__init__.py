"""Prefect 1's style over the same steps: graphs, triggers, signals, states; nothing below imports it."""
