"""Networks as files for other runtimes, each proven in its runtime before it gets its name."""
