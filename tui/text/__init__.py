"""Text for people from rows: pure, no Textual, the command line may import it too."""
