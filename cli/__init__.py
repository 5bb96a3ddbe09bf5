"""The command line: the only package that may see all the others; each command imports what it needs and no more."""
