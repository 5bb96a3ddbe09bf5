"""The living records of one run: run, call, future, frame, journal; waits for nothing and runs no user code."""
