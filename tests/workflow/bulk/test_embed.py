"""Embeddings over Arrow batches: which roles there are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from counterpoint.encoders import folder
from counterpoint.encoders.moe import Upcycled, UpcycledConfig
from counterpoint.encoders.residual import ResidualText, ResidualTextConfig
from counterpoint.errors import ConfigError
from counterpoint.workflow.bulk.embed import Embed


def test_a_role_is_a_prompt_or_a_domain_that_the_model_knows(tmp_path: Path) -> None:
    base = ResidualText.from_texts(["a claim", "the news"], ResidualTextConfig(dim=8, min_frequency=1))
    encoder = Upcycled(base, UpcycledConfig(domains=("law", "news")))
    with torch.no_grad():
        encoder.tokens_of[1].add_(1.0)  # type: ignore[index]
    folder.save(encoder, tmp_path / "m")
    rows = pa.table({"text": ["a claim"]})
    found = {
        role: Embed(tmp_path / "m", column="text", role=role)(rows)["embedding"].to_pylist()[0]
        for role in ("law", "news", "query", None)
    }
    assert found["law"] != found["news"]
    assert found["query"] == found[None]
    with pytest.raises(ConfigError, match="knows query, document, law, news"):
        Embed(tmp_path / "m", column="text", role="lax")(rows)
