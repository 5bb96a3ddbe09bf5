"""What asks the person something and hands back the answer; asks nothing of a run itself."""
