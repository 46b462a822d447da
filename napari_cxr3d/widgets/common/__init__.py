"""Parts that the panels share."""
