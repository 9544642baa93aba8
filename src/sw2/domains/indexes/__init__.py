"""Indexes: programs that know where keys stand in a sorted column, and which keys are not in a set.

What is asked: `learned-index`, a key (a number, a time, a text) or a range in, places out; and `membership-filter`
(the folder `filters`, which reads by itself), a key in, "no" or "probably" out. A B-tree is a model that predicts a
place from a key (arXiv 1712.01208); here it is learned, and proven on the keys with every answer.

Shapes: N keys, M queries.

Reading order: `kernels.cpp` (how a look-up works, and how models are fitted), `key_model` (what all models are),
`models` (what each holds), `rmi` and `roots` (a recursive model index, and how it begins), `native` and `reference`
(the same on compiled code and in numpy), `keys` (their types, and what can be asked), `texts` and `texts.cpp` (keys
that are text: numbers that models can be fitted to, and the search that ends a look-up), `columns` (the files),
`tables` (their rows), `data`, `task` (what is asked, the program), `objective` (the trial and the fit), `session` (keys
that come and go), `sides` and `session.cpp` (their log, and what is in memory), `presets`.
Measured results, and what did not work: README.md.
"""

from sw2.core.domain import DataEntry, Domain, ModelEntry, ObjectiveEntry, TaskEntry

__all__ = ["DOMAIN"]

DOMAIN = Domain(
    name="indexes",
    summary="Programs that know where keys stand, and which are not there.",
    tasks={
        "learned-index": TaskEntry(
            target="sw2.domains.indexes.task:LearnedIndex",
            recipe="sw2.domains.indexes.presets:recipe",
            summary="Where does this key stand in a sorted column?",
            models=(
                "pgm",
                "radix-spline",
                "rmi",
                "quantised-spline",
                "b-plus-tree",
                "binary-search",
                "interpolation-search",
                "eytzinger",
            ),
            data="lognormal-keys",
        ),
        "membership-filter": TaskEntry(
            target="sw2.domains.indexes.filters.task:MembershipFilter",
            recipe="sw2.domains.indexes.filters.presets:recipe",
            summary="Is this key in the set?",
            models=("sandwiched-filter", "bloom-filter"),
            data="called-numbers",
        ),
    },
    models={
        "pgm": ModelEntry(
            target="sw2.domains.indexes.models:Pgm",
            summary="The fewest lines within epsilon of every place, level over level.",
            source="Ferragina and Vinciguerra 2020, doi:10.14778/3389133.3389135",
        ),
        "radix-spline": ModelEntry(
            target="sw2.domains.indexes.models:RadixSpline",
            summary="A polyline of places, and a table of leading bits.",
            source="Kipf et al. 2020, arXiv:2004.14541",
        ),
        "rmi": ModelEntry(
            target="sw2.domains.indexes.rmi:Rmi",
            summary="A root, which may be a small network, that chooses one of many lines, in two or three stages.",
            source="Kraska et al. 2018, arXiv:1712.01208",
        ),
        "quantised-spline": ModelEntry(
            target="sw2.domains.indexes.models:QuantisedSpline",
            summary="Every so manieth key in 16 bits, and lines between them.",
            source="Kim et al. 2010, doi:10.1145/1807167.1807206; Graefe 2006, interpolation search in B-trees",
        ),
        "b-plus-tree": ModelEntry(
            target="sw2.domains.indexes.models:BPlusTree",
            summary="A static B+tree without pointers: a peer.",
            source="Khuong and Morin 2017, arXiv:1509.05053",
        ),
        "binary-search": ModelEntry(
            target="sw2.domains.indexes.models:BinarySearch",
            summary="Halving, queries interleaved: a peer.",
            source="Khuong and Morin 2017, arXiv:1509.05053",
        ),
        "interpolation-search": ModelEntry(
            target="sw2.domains.indexes.models:InterpolationSearch",
            summary="Probing where a straight line has the key: a peer.",
            source="Marcus et al. 2020, arXiv:2006.12804",
        ),
        "eytzinger": ModelEntry(
            target="sw2.domains.indexes.models:Eytzinger",
            summary="The keys once more, in the order of a binary search: a peer.",
            source="Khuong and Morin 2017, arXiv:1509.05053",
        ),
        "sandwiched-filter": ModelEntry(
            target="sw2.domains.indexes.filters.models:SandwichedFilter",
            summary="A classifier of keys between two Bloom filters.",
            source="Kraska et al. 2018, arXiv:1712.01208; Mitzenmacher 2018, arXiv:1901.00902",
        ),
        "bloom-filter": ModelEntry(
            target="sw2.domains.indexes.filters.models:BloomFilter",
            summary="Some bits of a field for each key: a peer.",
            source="Bloom 1970, doi:10.1145/362686.362692",
        ),
    },
    objectives={
        "one-pass": ObjectiveEntry(
            target="sw2.domains.indexes.objective:learn",
            config="sw2.domains.indexes.objective:LearnConfig",
            summary="The best model by a measured trial, fitted in one pass.",
        ),
        "one-filter": ObjectiveEntry(
            target="sw2.domains.indexes.filters.objective:OneFilter",
            config="sw2.domains.indexes.filters.objective:LearnConfig",
            summary="The smallest filter of a rate, learned or not.",
        ),
    },
    runtimes={
        "key-locator": "sw2.domains.indexes.task:KeyLocator",
        "membership": "sw2.domains.indexes.filters.task:Membership",
    },
    data={
        "lognormal-keys": DataEntry(
            task="learned-index",
            summary="A million whole numbers, far apart at the end.",
            licence="Apache-2.0",
        ),
        "called-numbers": DataEntry(
            task="membership-filter",
            summary="20,000 numbers in 20 ranges, and 20,000 others anywhere.",
            licence="Apache-2.0",
        ),
    },
)
