"""The terminal, the disk and the machine: nothing here knows what the program computes."""
