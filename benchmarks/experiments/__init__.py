"""What each system is put to, to show that it works; `benchmarks/systems.py` runs them."""
