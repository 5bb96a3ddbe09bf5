"""What users write: flows, tasks, their options and policies; reaches up only through doors.py."""
