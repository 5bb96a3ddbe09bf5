"""The places of the console: each takes news, shows them in widgets, and says which runs the verbs act on. No SQL."""
