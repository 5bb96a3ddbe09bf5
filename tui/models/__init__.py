"""What a widget shows, pure: tree, graph, log window."""
