"""What check-data shows of what datasets.checking found."""
