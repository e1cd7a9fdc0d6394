"""EDSR (Lim et al., CVPRW 2017), residual blocks without normalisation, a long skip, pixel shuffle."""

from gdq_cli.networks.edsr.config import MEAN, EdsrConfig
from gdq_cli.networks.edsr.lowering import lower_edsr
from gdq_cli.networks.kind import NetworkKind

KIND = NetworkKind(EdsrConfig, lower_edsr, "Edsr", mean=MEAN)
