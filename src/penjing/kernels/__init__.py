"""C kernels; Python only reads them as text. `generic/` is correct on every machine."""
