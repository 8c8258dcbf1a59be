"""The bytes of `manifest.json`: written canonically, read strictly.

The fields are in `schema`, the rules between them in `manifest_rules`. A manifest must equal, byte for byte, the one
that this module writes for the same values, so that two readers can never see two documents in one file.
"""

from penjing.bundle import strict_json
from penjing.bundle.manifest_rules import check_manifest
from penjing.bundle.schema import Manifest
from penjing.core.errors import CorruptBundle, InvalidInput, UnsupportedBundle

FORMAT = 1
# Names that `requires` may hold: features that a reader must not ignore, such as encryption or coded weights.
KNOWN_FEATURES: frozenset[str] = frozenset()


def dump_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of `manifest.json`.

    Raises:
        InvalidInput: a value that breaks a rule of the format.
    """
    try:
        document = strict_json.encode(manifest)
        check_manifest(strict_json.decode(Manifest, document))
    except strict_json.JsonError as fault:
        raise InvalidInput(fault.what, where=f"manifest, {fault.path or 'top level'}") from fault
    return strict_json.dump(document)


def parse_manifest(data: bytes | memoryview, *, where: str = "tray") -> Manifest:
    """The manifest in `data`, whose digest must have been verified before.

    Raises:
        UnsupportedBundle: a newer format, or a required feature that this release does not know.
        CorruptBundle: anything else that is not exactly what `dump_manifest` writes.
    """
    try:
        document = strict_json.parse(data)
        _refuse_newer(document, where)
        manifest = strict_json.decode(Manifest, document)
        check_manifest(manifest)
        if strict_json.dump(document) != bytes(data):
            raise strict_json.JsonError("it is not in the one form that penjing writes (order, spaces or numbers)")
    except strict_json.JsonError as fault:
        place = f"{where}, member manifest.json" + (f", {fault.path}" if fault.path else "")
        raise CorruptBundle(
            f"the manifest is refused: {fault.what}",
            where=place,
            hint="pack the tray again with penjing; manifests are not edited by hand",
        ) from fault
    return manifest


def _refuse_newer(document: object, where: str) -> None:
    """Look at the version and the features before anything whose meaning depends on them."""
    if not isinstance(document, dict):
        raise strict_json.JsonError("it is not an object")
    version = document.get("format")
    if type(version) is not int or version < 1:
        raise strict_json.JsonError("the version of the format must be an integer from 1", "format")
    place = f"{where}, member manifest.json"
    if version > FORMAT:
        raise UnsupportedBundle(
            f"the tray has format {version}; this release reads up to {FORMAT}", where=place, hint="upgrade penjing"
        )
    features = document.get("requires")
    if not isinstance(features, list) or not all(isinstance(feature, str) for feature in features):
        raise strict_json.JsonError("it must be a list of strings", "requires")
    unknown = sorted(set(features) - KNOWN_FEATURES)
    if unknown:
        raise UnsupportedBundle(
            f"the tray requires {', '.join(ascii(name[:40]) for name in unknown[:5])}, unknown to this release",
            where=place,
            hint="upgrade penjing",
        )
