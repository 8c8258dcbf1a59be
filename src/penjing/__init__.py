"""penjing makes a trained model small enough for the device that must carry it, and proves what that cost."""

__version__ = "0.1.0"
