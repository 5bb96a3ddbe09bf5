"""Text for people, made from rows: no Textual, no clock, no I/O; the one room that the command line may use, too."""
