"""The output of check-data: what datasets.checking found."""
