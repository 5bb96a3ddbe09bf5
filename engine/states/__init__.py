"""The vocabulary: the state machine, what may be asked in which state, State objects, how processes end, and the one
place that moves a row by the table. Knows nobody who runs or asks: no process of a run, no user code.
"""
