"""Cuts of layers, chosen by measuring them on this machine."""
