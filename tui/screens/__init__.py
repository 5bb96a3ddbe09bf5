"""The places of the console: runs, one run, flows and schedules."""
