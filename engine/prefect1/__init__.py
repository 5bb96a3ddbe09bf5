"""Prefect 1's style over the same steps: drawn flows, their options, triggers, signals and states. It has no engine of
its own and no way into the store; nothing below knows it.
"""
