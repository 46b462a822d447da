"""Figures of merit: image quality, and the statistics that go with them."""
