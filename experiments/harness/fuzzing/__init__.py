"""Random and damaged inputs of every kind that users hand over, and the verdict on what comes of each.

Every part has a function run(count, seed) → Part; the same seed makes the same inputs.
"""
