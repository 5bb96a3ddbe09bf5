"""How user code is performed, waited for and stopped: effects, drivers, slots, the gate; knows its host by a
protocol only.
"""
