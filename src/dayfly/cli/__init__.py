"""The command line."""


def main() -> int:
    """Run `dayfly`."""
    return 0
