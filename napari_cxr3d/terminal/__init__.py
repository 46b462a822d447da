"""What every command line of the project shares: results, progress, errors, exit status."""
