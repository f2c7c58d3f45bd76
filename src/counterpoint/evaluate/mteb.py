"""An encoder as the `mteb` package takes it: its tasks measure a Counterpoint model as they do any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from counterpoint.encoders.base import Encoder
from counterpoint.encoders.folder import load
from counterpoint.encoders.transforms import unit
from counterpoint.errors import DataError, need

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta


class ForMteb:
    """What ``mteb.evaluate(ForMteb("runs/mine/model"), tasks)`` wants of a model: its ``EncoderProtocol``.

    model: a model folder, or an encoder. name: what the results are kept under, ``owner/model``
    (None: by the folder).
    Queries and documents get the prompts that the model was trained with; texts or images, by the encoder's modality.
    Needs the extra ``mteb``.
    """

    def __init__(self, model: Encoder | Path | str, *, name: str | None = None) -> None:
        need("mteb", "mteb")
        self.encoder = model if isinstance(model, Encoder) else load(model)
        self.name = name or f"counterpoint/{'encoder' if isinstance(model, Encoder) else Path(model).resolve().name}"

    def encode(self, inputs: Iterable[Mapping[str, Any]], *, prompt_type: Any = None, **_: Any) -> np.ndarray:
        """Embeddings ``(N, D)`` of unit length, of batches that each hold a list of items by modality.

        The keywords not named here are of the task and of the loop; an encoder needs none of them.

        inputs: batches. prompt_type: query or document, whose prompt is put before each.
        """
        modality, items = self.encoder.modality, []
        for batch in inputs:
            if modality not in batch:
                raise DataError(f"This task holds {' and '.join(batch)}; {self.name} encodes {modality}s.")
            items += list(batch[modality])
        role = None if prompt_type is None else str(getattr(prompt_type, "value", prompt_type))
        return self.encoder.encode(items, role=role, normalize=True)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Cosines ``(N, M)``.

        embeddings1: ``(N, D)``. embeddings2: ``(M, D)``.
        """
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Cosines ``(N,)`` of each row with the other's same row.

        embeddings1, embeddings2: ``(N, D)``.
        """
        return (_unit(embeddings1) * _unit(embeddings2)).sum(1)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb wants to know of a model."""
        from mteb.models.model_meta import ModelMeta

        weights = list(self.encoder.parameters())
        return ModelMeta(
            loader=None,
            name=self.name,
            revision="local",
            release_date=None,
            languages=None,
            n_parameters=sum(w.numel() for w in weights),
            memory_usage_mb=sum(w.numel() * w.element_size() for w in weights) / 2**20,
            max_tokens=getattr(self.encoder, "max_length", None),
            embed_dim=self.encoder.dim,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=bool(self.encoder.prompts),
            training_datasets=None,
            modalities=[self.encoder.modality],
        )


def _unit(x: Any) -> np.ndarray:
    return unit(np.atleast_2d(np.asarray(x, dtype=np.float32)))
