"""FLIP's datasets (Dallago et al. 2021, https://github.com/J-SNACKKB/FLIP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datasets.sequences.crop import Crop, Region, Sites
from datasets.task import Announce, FoundSource, RawSplit, Task
from datasets.tasks.flip_files import find_file

GB1_WILD_TYPE = (  # 5LDE, chain A: the GB1 domain, 56 residues, is fused to the viral FLICE protein
    "MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTELEVLFQGPLDPNSMATYEVLCEVARKLGTDDREVVLFLLNV"
    "FIPQPTLAQLIGALRALKEEGRLTFPLLAECLFRAGRRDLLRDLLHLDPRFLERHLAGTMSYFSPYQLTVLHVDGELCARDIRSLIFLSKDTIGSRS"
    "TPQTFLHWVYCMENLDLLGPTDVDALMSMLRSLSRVDLQRQVQTLMGLHLSGPSHSQHYRHTPLEHHHHHH"
)
AAV_WILD_TYPE = (  # UniProt P03135: capsid protein VP1 of AAV2, 735 residues
    "MAADGYLPDWLEDTLSEGIRQWWKLKPGPPPPKPAERHKDDSRGLVLPGYKYLGPFNGLDKGEPVNEADAAALEHDKAYDRQLDSGDNPYLKYNHAD"
    "AEFQERLKEDTSFGGNLGRAVFQAKKRVLEPLGLVEEPVKTAPGKKRPVEHSPVEPDSSSGTGKAGQQPARKRLNFGQTGDADSVPDPQPLGQPPAA"
    "PSGLGTNTMATGSGAPMADNNEGADGVGNSSGNWHCDSTWMGDRVITTSTRTWALPTYNNHLYKQISSQSGASNDNHYFGYSTPWGYFDFNRFHCHF"
    "SPRDWQRLINNNWGFRPKRLNFKLFNIQVKEVTQNDGTTTIANNLTSTVQVFTDSEYQLPYVLGSAHQGCLPPFPADVFMVPQYGYLTLNNGSQAVG"
    "RSSFYCLEYFPSQMLRTGNNFTFSYTFEDVPFHSSYAHSQSLDRLMNPLIDQYLYYLSRTNTPSGTTTQSRLQFSQAGASDIRDQSRNWLPGPCYRQ"
    "QRVSKTSADNNNSEYSWTGATKYHLNGRDSLVNPGPAMASHKDDEEKFFPQSGVLIFGKQGSEKTNVDIEKVMITDEEEIRTTNPVATEQYGSVSTN"
    "LQRGNRQAATADVNTQGVLPGMVWQDRDVYLQGPIWAKIPHTDGHFHPSPLMGGFGLKHPPPQILIKNTPVPANPSTTFSAAKFASFITQYSTGQVS"
    "VEIEWELQKENSKRWNPEIQYTSNYNKSVNVDFTVDTNGVYSEPRPIGTRYLTRNL"
)
_GB1_SPLITS = ("one_vs_rest", "two_vs_rest", "three_vs_rest", "low_vs_high", "sampled")
_AAV_SPLITS = ("one_vs_many", "two_vs_many", "seven_vs_many", "low_vs_high", "sampled", "des_mut", "mut_des")
_MELTOME_SPLITS = ("mixed", "human", "human_cell")
_MELTOME_RETIRED = ("full", "clustered")
# Residues 561 to 588 (1-based) of the wild type were mutated; what stands behind them is of fixed length.
_AAV_REGION = Crop(start=560, stop=588 - len(AAV_WILD_TYPE))


def clean_flip(sequence: str) -> str:
    """Return the residues as FLIP's loader makes them: upper case, no ``*`` (stop codons)."""
    return sequence.upper().replace("*", "")


@dataclass(frozen=True, slots=True)
class FlipSource:
    """The ``splits.zip`` of one of FLIP's datasets; `tables` names the CSVs that are not called as their split is."""

    dataset: str
    tables: Mapping[str, str] = field(default_factory=dict)

    def locate(self, *, data_dir: Path | None, announce: Announce) -> FoundSource:
        """Find or download the file."""
        return find_file(self.dataset, data_dir=data_dir, announce=announce)

    def read(self, located: FoundSource, split: str) -> RawSplit:
        """Read the split's CSV out of the file."""
        from datasets.tasks.split_zip import read_split

        assert located.path is not None, "this source locates files"
        return read_split(located.path, self.tables.get(split, split))

    def sizes(self, located: FoundSource, split: str) -> tuple[int, int, int]:
        """Return the numbers of train, validation and test rows of a split, unchecked."""
        from datasets.tasks.split_zip import count_rows

        assert located.path is not None, "this source locates files"
        return count_rows(located.path, self.tables.get(split, split))


def _tasks(
    dataset: str,
    splits: tuple[str, ...],
    *,
    crops: Mapping[str, Crop],
    default_crop: str,
    region: Region | None,
    wild_type: str | None,
    units: str,
    tables: Mapping[str, str] | None = None,
    retired: bool = False,
) -> tuple[Task, ...]:
    source = FlipSource(dataset, tables or {})
    return tuple(
        Task(
            name=f"{dataset}_{split}",
            dataset=dataset,
            split=split,
            source=source,
            clean=clean_flip,
            clean_version=1,
            crops=crops,
            default_crop=default_crop,
            region=region,
            wild_type=wild_type,
            units=units,
            retired=retired,
            shift="fitness" if split == "low_vs_high" else None,
            has_one_length=isinstance(region, Sites),
        )
        for split in splits
    )


def _meltome(splits: tuple[str, ...], *, retired: bool = False) -> tuple[Task, ...]:
    """Melting temperatures of natural proteins (Jarzab et al. 2020): no wild type, and nothing to crop to."""
    return _tasks(
        "meltome",
        splits,
        crops={"none": Crop()},
        default_crop="none",
        region=None,
        wild_type=None,
        units="°C",
        tables={"mixed": "mixed_split"},
        retired=retired,
    )


TASKS: tuple[Task, ...] = (
    *_tasks(
        "gb1",
        _GB1_SPLITS,
        crops={"domain": Crop(stop=56), "none": Crop()},
        default_crop="domain",
        region=Sites(positions=(38, 39, 40, 53)),  # V39, D40, G41 and V54 (1-based)
        wild_type=GB1_WILD_TYPE,
        units="binding relative to the wild type",
    ),
    *_tasks(
        "aav",
        _AAV_SPLITS,
        crops={"region": _AAV_REGION, "none": Crop()},
        default_crop="region",
        region=_AAV_REGION,
        wild_type=AAV_WILD_TYPE,
        units="log2 enrichment of packaged capsids",
    ),
    *_meltome(_MELTOME_SPLITS),
    *_meltome(_MELTOME_RETIRED, retired=True),
)
