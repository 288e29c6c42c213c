"""What is in a data set: counts, faults, a sheet of samples."""
