"""How isotropic a model's states are in 24 languages: 1 - mean cosine of the states of different tokens of a sentence.

python bench/isotropy.py MODEL [MODEL]: run folders, model folders or hub ids, of language models or of text encoders
that give a state for each token; the second is the peer of the first. Sentences are those of the set `tatoeba`.
A multilingual model and its peer, for instance:

    counterpoint fit tatoeba --columns text=source --method contrastive-search --out runs/margin
    counterpoint fit tatoeba --columns text=source --method contrastive-search --set margin=0 --out runs/plain
    python bench/isotropy.py runs/margin runs/plain

Su and Collier 2023 (arXiv 2210.14140) report 0.53 to 0.83 for published models of other languages than English, and
0.10 for GPT-2 small.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict

from counterpoint.data.sets.registry import load as data
from counterpoint.encoders.base import Encoder
from counterpoint.evaluate.language import isotropy
from counterpoint.workflow.models import load, model_path


def sentences(most: int) -> dict[str, list[str]]:
    """At most so many sentences of each language, and of English."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in data("tatoeba"):
        found[row["lang"]].append(row["source"])
        found["eng"].append(row["english"])
    return {lang: list(dict.fromkeys(texts))[:most] for lang, texts in sorted(found.items())}


def encoder(name: str) -> Encoder:
    if model_path(name).is_dir():
        return load(name, "text")
    from counterpoint.encoders.text import TextTransformer

    return TextTransformer.from_pretrained(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--sentences", type=int, default=500, help="of each language, at most")
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # that long sentences are cut
    models = {name: encoder(name) for name in given.models}
    print(f"{'language':10}{'sentences':>10}  " + "  ".join(f"{name:>16}" for name in models))
    for lang, texts in sentences(given.sentences).items():
        shown = "  ".join(f"{isotropy(model, texts):16.3f}" for model in models.values())
        print(f"{lang:10}{len(texts):10}  {shown}")


if __name__ == "__main__":
    main()
