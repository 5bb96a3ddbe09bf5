"""One file a table: its statements, named, beside what they promise."""
