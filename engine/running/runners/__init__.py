"""Where steps run: the pool of threads, and worker processes with their fork server; does not know which steps."""
