"""The panels: one folder each, a widget without logic and a controller without layout."""
