"""Other libraries at the same jobs, a file for each family. They live in an environment of their own (`run.py` makes it).

Each function makes a way, or a way and what must happen, untimed, before each run of it; it raises if its library is not
there or computes something else, and the reason stands in the table.
"""
