"""What goes wrong on machines, one module a kind; each gives a `Verdict`."""
