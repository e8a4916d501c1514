"""Links one can buy, with the source of each figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agentservesim.lookup import near_or_all
from agentservesim.model import InputError


@dataclass(frozen=True, slots=True)
class LinkKind:
    """Figures of a link; bytes per second in each direction."""

    down_bytes_per_s: float
    up_bytes_per_s: float
    latency_s: float
    overhead_s: float
    duplex: str
    source: str

    def figures(self) -> dict[str, object]:
        """The fields that a link's configuration takes from here."""
        return {key: value for key, value in asdict(self).items() if key != "source"}


LINKS: dict[str, LinkKind] = {
    "pcie4-x16": LinkKind(
        26.2e9, 26.2e9, 10e-6, 20e-6, "full", "A100 host copies measured: 26.2 GB/s (32 by the standard)"
    ),
    "pcie5-x16": LinkKind(
        50e9, 50e9, 10e-6, 20e-6, "full", "H100 with 2 MB DMA: 50 GB/s one way (vLLM offloading blog)"
    ),
    "pcie6-x16": LinkKind(
        100e9, 100e9, 10e-6, 20e-6, "full", "128 GB/s by the standard, times the share PCIe 5 reaches"
    ),
    "nvlink-c2c": LinkKind(450e9, 450e9, 2e-6, 5e-6, "full", "GH200: 450 GB/s per direction (vendor)"),
    "cxl2-x8": LinkKind(
        24e9, 12e9, 10e-6, 20e-6, "half", "CZ120 on PCIe 5 x8: 36 GB/s at two reads to one write"
    ),
    "cxl3-x16": LinkKind(100e9, 100e9, 10e-6, 20e-6, "full", "CXL 3 runs at the PCIe 6 rate"),
    "nvme-gen4": LinkKind(
        5e9, 7e9, 100e-6, 50e-6, "half", "PCIe 4 x4 drives: about 7 GB/s read, 5 GB/s write"
    ),
    "nvme-gen5": LinkKind(
        10e9, 14e9, 100e-6, 50e-6, "half", "PCIe 5 x4 drives: about 14 GB/s read, 10 GB/s write"
    ),
    "rdma-200g": LinkKind(
        23e9, 23e9, 20e-6, 30e-6, "full", "200 Gb/s NIC; 4 of them moved 87 GB/s (Mooncake)"
    ),
    "rdma-400g": LinkKind(
        46e9, 46e9, 20e-6, 30e-6, "full", "400 Gb/s NIC, at the share that 200 Gb/s ones reach"
    ),
}
"""Link kinds by name. "up" is towards HBM: reads from the lower tier. Latency and overhead are those of
a DMA engine driven by the host, a few tens of microseconds a transfer."""


def list_links() -> dict[str, str]:
    """Link kinds by name, each in a line: GB/s in each direction, and where the figures are from."""
    return {
        name: f"{kind.down_bytes_per_s / 1e9:g} GB/s down, {kind.up_bytes_per_s / 1e9:g} up, "
        f"{kind.duplex} duplex; {kind.source}"
        for name, kind in LINKS.items()
    }


def find_link(name: str) -> LinkKind:
    """A link kind by name. Raises InputError for an unknown one."""
    if name not in LINKS:
        raise InputError(f"unknown link kind '{name}'{near_or_all(name, LINKS)}")
    return LINKS[name]
