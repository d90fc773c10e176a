"""Measurements: one script per claim, each printing one table, with the same figures as JSON."""
