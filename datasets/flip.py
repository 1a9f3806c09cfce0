"""FLIP's datasets (Dallago et al. 2021, https://github.com/J-SNACKKB/FLIP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets.crop import Crop, Region, Sites
from datasets.source import find_file
from datasets.task import Announce, Located, RawSplit, Task

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
_AAV_SPLITS = (
    "one_vs_many",
    "two_vs_many",
    "seven_vs_many",
    "low_vs_high",
    "sampled",
    "des_mut",
    "mut_des",
)
# Residues 561 to 588 (1-based) of the wild type were mutated; what stands behind them is of fixed length.
_AAV_REGION = Crop(start=560, stop=588 - len(AAV_WILD_TYPE))


def clean_flip(sequence: str) -> str:
    """Return the residues as FLIP's loader makes them: upper case, no ``*`` (stop codons)."""
    return sequence.upper().replace("*", "")


@dataclass(frozen=True, slots=True)
class FlipSource:
    """The ``splits.zip`` of one of FLIP's datasets."""

    dataset: str

    def locate(self, *, data_dir: Path | None, announce: Announce) -> Located:
        """Find or download the file."""
        found = find_file(self.dataset, data_dir=data_dir, announce=announce)
        label = "FLIP's file" if found.official else "not FLIP's file"
        return Located(path=found.path, version=found.git_blob, official=found.official, label=label)

    def read(self, located: Located, split: str) -> RawSplit:
        """Read ``<split>.csv`` out of the file."""
        from datasets.split_zip import read_split

        if located.path is None:
            raise ValueError(f"{self.dataset} was located without a file")
        return read_split(located.path, split)


def _tasks(
    dataset: str,
    splits: tuple[str, ...],
    *,
    crops: Mapping[str, Crop],
    default_crop: str,
    region: Region,
    wild_type: str,
    units: str,
) -> tuple[Task, ...]:
    return tuple(
        Task(
            name=f"{dataset}_{split}",
            dataset=dataset,
            split=split,
            source=FlipSource(dataset),
            clean=clean_flip,
            clean_version=1,
            crops=crops,
            default_crop=default_crop,
            region=region,
            wild_type=wild_type,
            units=units,
        )
        for split in splits
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
)
