"""The vocabulary: the state machine, what may be asked in which state, State objects, and moving a row by the table."""
