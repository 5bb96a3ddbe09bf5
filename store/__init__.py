"""Facts: schema, connections, group-commit writer, readers, change feed.

Imports no sibling package. Nothing here decides what a run should do next.
"""
