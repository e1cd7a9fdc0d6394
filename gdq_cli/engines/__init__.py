"""Engines: the same integers, computed in different ways."""

from gdq_cli.engines.base import Engine
from gdq_cli.engines.choice import EngineChoice, choose_device, choose_engine, self_test

__all__ = ["Engine", "EngineChoice", "choose_device", "choose_engine", "self_test"]
