"""The headless engine: schedules to runs, claims, code hosts, supervision; reaches the run wing only in code hosts."""
