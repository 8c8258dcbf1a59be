"""`penjing build`: what goes in, what comes out, and what is said about it."""

import json

import numpy as np
import pytest

import penjing as package

from .conftest import BUILD
