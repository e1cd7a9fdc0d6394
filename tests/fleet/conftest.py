"""S3 as moto has it, and a Ray cluster of two nodes with one CPU each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.s3 import moto_server, s3_environment


@dataclass
class Bucket:
    """The bucket ``bucket``, its server's address, and the requests so far."""

    client: Any
    address: str
    requests: list[str] = field(default_factory=list)

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket="bucket", Key=key, Body=body)

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket="bucket", Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


@pytest.fixture(scope="package")
def bucket() -> Iterator[Bucket]:
    for package in ("moto", "flask", "s3fs", "boto3"):
        pytest.importorskip(package, reason="pip install 'moto[s3,server]' s3fs")
    import boto3

    requests: list[str] = []
    with pytest.MonkeyPatch.context() as patch, moto_server(requests) as address:
        for name, value in s3_environment(address).items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield Bucket(client, address, requests)


@pytest.fixture(scope="package")
def cluster(bucket: Bucket) -> Iterator[Any]:
    """Its nodes have S3's address and keys in their environment, as nodes of a real cluster would."""
    pytest.importorskip("ray.data", reason="pip install 'ray[data]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # nodes run this checkout
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        found.second = found.add_node(**node)
        found.wait_for_nodes()
        yield found
        found.shutdown()
