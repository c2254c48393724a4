"""What an evaluation measures and leaves behind."""
