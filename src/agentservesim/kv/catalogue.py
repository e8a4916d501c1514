"""Links one can buy, with the source of each figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agentservesim.lookup import near_or_all
from agentservesim.model import InputError


@dataclass(frozen=True, slots=True)
class LinkKind:
    """Figures of a link; bytes per second in each direction, "up" being towards HBM.

    `source` is that of the bandwidths, `others` that of the rest.
    """

    down_bytes_per_s: float
    up_bytes_per_s: float
    latency_s: float
    overhead_s: float
    min_bytes: float
    duplex: str
    source: str
    others: str

    def figures(self) -> dict[str, object]:
        """The fields that a link's configuration takes from here."""
        return {key: value for key, value in asdict(self).items() if key not in ("source", "others")}


SUBMIT_S = 6e-6
"""A copy takes the host 5 to 7 us to submit (DualPath, arXiv 2602.21548, section 5.2). A transfer is
many of them, one a piece: pieces that move more quickly than that do not reach the bandwidth."""

SUBMITTED = "5 to 7 us to submit a copy (DualPath, arXiv 2602.21548)"
PCIE = f"{SUBMITTED}; about 1 us a round trip of PCIe (Neugebauer et al., SIGCOMM 2018)"
CXL = f"{SUBMITTED}; 0.2 to 0.5 us (CXL Consortium)"
POOL = f"{SUBMITTED}; 596 ns through a switch (Samsung CMM-B)"
NVME = "60 us to read (Micron 9550); rated with pieces of 128 KiB; submitted as other copies are"
RDMA = "about 3 us (Lightelligence, Memory Fabric Forum 2024); slices of 64 KiB (Mooncake Transfer Engine); "
RDMA += "submitted as other copies are, at most"


def _copied(down: float, up: float, latency_s: float, duplex: str, source: str, others: str) -> LinkKind:
    """A link that a copy engine drives, told by the host what to copy."""
    return LinkKind(down, up, latency_s, SUBMIT_S, SUBMIT_S * max(down, up), duplex, source, others)


def _drive(down: float, up: float, source: str) -> LinkKind:
    return LinkKind(down, up, 60e-6, SUBMIT_S, 128 * 1024, "half", source, NVME)


def _adapter(bytes_per_s: float, source: str) -> LinkKind:
    return LinkKind(bytes_per_s, bytes_per_s, 3e-6, SUBMIT_S, 64 * 1024, "full", source, RDMA)


LINKS: dict[str, LinkKind] = {
    "pcie4-x16": _copied(
        26.2e9, 26.2e9, 1e-6, "full", "A100 host copies measured: 26.2 GB/s (32 by the standard)", PCIE
    ),
    "pcie5-x16": _copied(
        50e9, 50e9, 1e-6, "full", "H100 with 2 MB DMA: 50 GB/s one way (vLLM offloading blog, 2026)", PCIE
    ),
    "pcie6-x16": _copied(
        100e9, 100e9, 1e-6, "full", "128 GB/s by the standard, times the share PCIe 5 reaches", PCIE
    ),
    "nvlink-c2c": _copied(
        297e9,
        375e9,
        1e-6,
        "full",
        "GH200 measured: 297 GB/s to the host, 375 from it (arXiv 2407.07850; 450 by the vendor)",
        f"{SUBMITTED}; a round trip taken as that of PCIe",
    ),
    "nvlink-c2c-gb200": _copied(
        148e9,
        187e9,
        1e-6,
        "full",
        "GB200: what GH200 has for one GPU serves two (vendor): half of what is reached there",
        f"{SUBMITTED}; a round trip taken as that of PCIe",
    ),
    "cxl2-x8": _copied(
        12e9, 24e9, 0.5e-6, "full", "Micron CZ120 on PCIe 5 x8: 36 GB/s at two reads to one write", CXL
    ),
    "cxl2-pool": _copied(
        50e9,
        50e9,
        0.6e-6,
        "half",
        "Samsung CMM-B, a box for several hosts: 60 GB/s (vendor), of which PCIe 5 x16 takes 50",
        POOL,
    ),
    "cxl3-x16": _copied(
        100e9, 100e9, 0.5e-6, "full", "CXL 3 runs at the PCIe 6 rate (CXL Consortium, 2022)", CXL
    ),
    "cxl3-pool": _copied(
        100e9,
        100e9,
        0.6e-6,
        "full",
        "a port of a CXL 3 switch: the PCIe 6 rate, no latency added to CXL 2 (CXL Consortium, 2022)",
        POOL,
    ),
    "nvme-gen4": _drive(5.9e9, 7e9, "Micron 7500, PCIe 4 x4: 7 GB/s read, 5.9 GB/s write (data sheet)"),
    "nvme-gen5": _drive(10e9, 14e9, "Micron 9550, PCIe 5 x4: 14 GB/s read, 10 GB/s write (data sheet)"),
    "rdma-200g": _adapter(23e9, "200 Gb/s NIC; 4 of them moved 87 GB/s (Mooncake)"),
    "rdma-400g": _adapter(
        46e9, "400 Gb/s NIC, at the share that 200 Gb/s ones reach (8 of them moved 190 GB/s: Mooncake)"
    ),
}
"""Link kinds by name."""


def list_links() -> dict[str, str]:
    """Link kinds by name, each in a line: its figures, and where they are from."""
    return {name: _told(kind) for name, kind in LINKS.items()}


def _told(kind: LinkKind) -> str:
    return (
        f"{kind.down_bytes_per_s / 1e9:g} GB/s down, {kind.up_bytes_per_s / 1e9:g} up, {kind.duplex} duplex: "
        f"{kind.source}; {kind.overhead_s * 1e6:g} us a transfer, {kind.latency_s * 1e6:g} us latency, "
        f"pieces from {kind.min_bytes / 1e3:.0f} kB: {kind.others}"
    )


def find_link(name: str) -> LinkKind:
    """A link kind by name. Raises InputError for an unknown one."""
    if name not in LINKS:
        raise InputError(f"unknown link kind '{name}'{near_or_all(name, LINKS)}")
    return LINKS[name]
