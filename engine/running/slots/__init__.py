"""Slots of limits: asked for, waited for, given back, deadlocks found."""
