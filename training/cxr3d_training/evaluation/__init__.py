"""Evaluation of trained models beside baselines, on patients that no training saw."""
