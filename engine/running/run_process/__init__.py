"""The process of a root run: taking it, its session, requests from outside, timeouts, suspension, its end."""
