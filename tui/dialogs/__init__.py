"""What asks the person something."""
