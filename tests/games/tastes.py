"""Ratings that a test makes: tastes that go by what others like."""

from pathlib import Path

from bigan.clock import digest


def tastes(place: Path, users: int = 40, items: int = 60) -> Path:
    """Each user likes a third of the items, by its number, and both files, train.txt and test.txt, hold half of that."""
    for name, half in (("train.txt", 0), ("test.txt", 1)):
        lines = [
            f"{user} {item} {5 if (item - user) % 3 == 0 else 1}"
            for user in range(users)
            for item in range(items)
            if digest((user, item)) % 2 == half
        ]
        (place / name).write_text("\n".join(lines))
    return place / "train.txt"
