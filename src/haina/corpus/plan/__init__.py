"""What a corpus of a given size costs, before it is made."""
