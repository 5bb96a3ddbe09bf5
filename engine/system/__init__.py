"""This machine: clocks, who we are, processes, kernel notices, files of flows and of our own, sockets, one event loop.
Knows no run, no store and no user's code; everything else may use it.
"""
