"""What draws and takes keys, on Textual's line API: lists, logs, graphs, bars. Knows no screen and reads no store."""
