"""Two things run side by side, and the ratio of their times: `python -m benchmarks --help`."""
