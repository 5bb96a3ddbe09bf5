"""When flows run: pure values, and what comes next of them. No clock, no store, no threads; nothing here starts one."""
