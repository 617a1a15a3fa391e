"""The papers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """What is reproduced."""

    authors: str
    title: str
    where: str
    arxiv: str


NATURE = Paper(
    "Shumailov et al. 2024",
    "AI models collapse when trained on recursively generated data",
    "Nature 631, 755-759",
    "2305.17493",
)
GERSTGRASSER = Paper(
    "Gerstgrasser et al. 2024",
    "Is model collapse inevitable? Breaking the curse of recursion by accumulating real and synthetic data",
    "COLM 2024",
    "2404.01413",
)
KAZDAN = Paper(
    "Kazdan et al. 2024",
    "Collapse or thrive? Perils and promises of synthetic data in a self-generating world",
    "ICML 2025",
    "2410.16713",
)
DRAYSON = Paper(
    "Drayson et al. 2025",
    "Machine-generated text detection prevents language model collapse",
    "EMNLP 2025",
    "2502.15654",
)
GUO = Paper(
    "Guo et al. 2024",
    "The curious decline of linguistic diversity: training language models on synthetic text",
    "Findings of NAACL 2024",
    "2311.09807",
)
SURESH = Paper("Suresh et al. 2024", "Rate of model collapse in recursive training", "AISTATS 2025", "2412.17646")
