"""The same tasks under Flowdeck, by hand, and under Prefect, DBOS and Huey: ``python -m benchmarks.peers``."""
