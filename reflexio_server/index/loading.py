"""Loads embedders, by the name of a setting or by the id beside the vectors that they made."""

from pathlib import Path

from reflexio_server.index.embedder import Embedder, ModelMissing

EMBEDDER_NAMES = ("minilm", "minilm-int8", "minilm-fp32", "e5", "wordllama")
_NAMES = {
    "all-MiniLM-L6-v2/int8/": "minilm-int8",
    "all-MiniLM-L6-v2/fp32/": "minilm-fp32",
    "multilingual-e5-small/int8/": "e5",
    "wordllama/": "wordllama",
}


def load_by_id(model_id: str, model_dir: Path) -> Embedder | None:
    """Load the embedder with exactly this model_id; None when its files are not here, or are of another version."""
    name = name_of(model_id)
    if name is None:
        return None
    try:
        embedder = load_embedder(name, model_dir)
    except ModelMissing:
        return None
    return embedder if embedder.model_id == model_id else None


def name_of(model_id: str) -> str | None:
    """The name that `load_embedder` takes for a model_id; None when it is none of ours."""
    return next((name for beginning, name in _NAMES.items() if model_id.startswith(beginning)), None)


def load_embedder(name: str, model_dir: Path) -> Embedder:
    """Load an embedder from files on this machine; nothing is ever downloaded here.

    Args:
        name: one of `EMBEDDER_NAMES`. "minilm" is MiniLM in int8 where the processor multiplies int8 quickly
            and in fp32 elsewhere; "minilm-int8" and "minilm-fp32" insist on one of them; "e5" is multilingual-e5-small,
            built with the extra `multilingual`; "wordllama" is the light model of the extra of that name.
        model_dir: the folder filled by `install_model`. Not read for "wordllama", whose files come with its
            package.

    Raises:
        ModelMissing: files are absent, incomplete or of another version.
        ValueError: there is no embedder of that name.
    """
    # Imported here, so that a server pays only for the libraries of the model it uses.
    if name == "wordllama":
        from reflexio_server.index.wordllama import WordLlama

        return WordLlama()
    if name == "e5":
        from reflexio_server.index.e5 import E5

        return E5(model_dir)
    if name in EMBEDDER_NAMES:
        from reflexio_server.index.minilm import MiniLM, best_precision

        if name == "minilm":
            return MiniLM(model_dir, best_precision())
        return MiniLM(model_dir, "int8" if name == "minilm-int8" else "fp32")
    raise ValueError(f"there is no embedder {name!r}; choose one of: {', '.join(EMBEDDER_NAMES)}")
