"""Facts: schema, connections, group-commit writer, readers, change feed.

Duty: to keep what happened, durably, and to show it: this room alone knows SQL, SQLite and its errors, and where a
transaction begins and ends. Everybody else hands its ``Connection`` on and calls the functions beside the tables.
It may not import a sibling package, run anybody's code but a writer's operations, or decide what a run does next.
"""
