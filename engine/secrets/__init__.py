"""What must never be written: secrets, and their masking in any text; knows no run."""
