"""Recipes: passes of compression and trainings in order, applied to a network, with a record of what each was worth."""
