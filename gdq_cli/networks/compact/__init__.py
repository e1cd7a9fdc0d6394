"""Compact (SRVGGNetCompact, Wang et al. 2021): a chain of convolutions and PReLUs, added to the enlarged input."""

from gdq_cli.networks.compact.config import CompactConfig
from gdq_cli.networks.compact.lowering import lower_compact
from gdq_cli.networks.kind import NetworkKind

KIND = NetworkKind(CompactConfig, lower_compact, "Compact")
