"""Timings, each compared with a floor that is measured in the same run. docs/performance.md has figures and commands."""
