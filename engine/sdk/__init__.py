"""What running code may call, with the names users import: artifacts, variables, sh, sleep, pause, concurrency,
runtime.
"""
