"""x."""


class Recipe:
    pass
