"""The steps of flows and tasks: attempts, retries, calls, subflows, endings; the only place that decides outcomes."""
