"""Trainings behind the benchmarks that take too long to repeat every time; their results lie in docs/results/."""
