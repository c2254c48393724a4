"""Terminal, disk and machine: nothing here depends on what the program computes."""
