"""Plain torch modules, one file per family, written as a user would write them."""
