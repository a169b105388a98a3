"""Timings, each beside a floor measured in the same run. Figures and how to repeat them: docs/performance.md."""
