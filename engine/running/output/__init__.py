"""What a run prints and logs: captured, masked, spooled, shown to the person who started it, moved into the store;
moves no state and waits for nothing of a run.

It does not know how its run is driven; of a frame it reads whose line it is. On a full disk a line waits for room
rather than being lost; a terminal that is gone keeps nobody from printing.
"""
