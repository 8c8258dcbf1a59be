"""What a compiler finds in its environment: English messages, private temporary files, and zig's caches.

Variables are set by the command `env`, so that a logged command can be repeated as it stands.

zig has two caches. The C libraries that it builds at first use go to the *global* one, which is kept. The *local* one
holds compiled files by the digest of their text, and does not look into files that the text draws in by `.incbin`: a
second build with other weights in a file of the same name would get the old weights. So it lives and dies with one
build.
"""

import tempfile
from pathlib import Path

from penjing.core import knobs
from penjing.core.errors import WriteFailed
from penjing.core.files import write_atomically
from penjing.core.targets import Target
from penjing.toolchain.compilers import Compiler, Product, find_compiler


def environment_words(compiler: Compiler, private: Path) -> tuple[str, ...]:
    """The words before a compiler's own that set its environment; `private` lives as long as the build."""
    # Compilers that are killed leave temporary files behind: in `private` they are swept away.
    words = ("env", "LC_ALL=C", f"TMPDIR={private / 'tmp'}")
    if compiler.family != "zig":
        return words
    return (*words, f"ZIG_GLOBAL_CACHE_DIR={_global_cache()}", f"ZIG_LOCAL_CACHE_DIR={private / 'zig'}")


def is_first_use(target: Target, product: Product = "library", compiler: Compiler | None = None) -> bool:
    """Whether the next build has to build the target's C library first, which takes up to a minute and a half.

    For whoever shows progress; it says so also when another program has filled zig's cache before.
    """
    compiler = compiler or find_compiler(target)
    return compiler.family == "zig" and not _mark(compiler, product).exists()


def note_build(compiler: Compiler, product: Product) -> None:
    """Note that a build for this target has succeeded."""
    if compiler.family == "zig" and not _mark(compiler, product).exists():
        write_atomically(_mark(compiler, product), b"", force=True)


def _mark(compiler: Compiler, product: Product) -> Path:
    triple = compiler.target_flags(product)[1]
    release = compiler.version().split()[1]
    return _global_cache() / f"penjing-{release}-{triple}-{product}"


def _global_cache() -> Path:
    try:
        folder = knobs.ZIG_GLOBAL_CACHE.path() or knobs.cache_dir() / "zig"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteFailed(
            f"the compiler's cache cannot be made: {error.strerror or error}",
            where=f"{knobs.CACHE.name}={knobs.CACHE.text()}",
            hint=f"set {knobs.CACHE.name} to a folder that can be written, such as one in {tempfile.gettempdir()}",
        ) from error
    return folder.resolve()
