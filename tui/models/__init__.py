"""What is shown, as values: trees, graphs, windows on logs, news. Pure: no I/O, no clock, no threads, no widgets."""
