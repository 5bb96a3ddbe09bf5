"""One file a table, or a matter of several: its statements, named, beside the functions that run them.

Duty: rows in, rows out, on the connection that the caller hands in and within the transaction that is the caller's.
They may not open a connection, begin or end a transaction, keep anything between two calls, wait, or know a reader, a
writer or the files of a store; a row is a tuple of ``rows``, and a broken rule is an error of ``errors``.
"""
