"""SRResNet (Ledig et al., CVPR 2017) as the authors of Granular-DQ release it: to run, not to train."""

from gdq_cli.bits.controller_release import ReleaseHead
from gdq_cli.networks.kind import NetworkKind
from gdq_cli.networks.srresnet.config import SrresnetConfig
from gdq_cli.networks.srresnet.lowering import lower_srresnet

KIND = NetworkKind(
    SrresnetConfig,
    lower_srresnet,
    "Srresnet",
    trainable=False,
    controller_head=lambda tensors: ReleaseHead(tensors["head.weight"]),
)
