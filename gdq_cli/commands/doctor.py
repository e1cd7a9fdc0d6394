"""The command gdq doctor."""

from __future__ import annotations

from typing import Any

import typer

from gdq_cli.commands.line.flags import DeviceOption, JsonOption
from gdq_cli.commands.terminal.wording import as_options, print_json, tell
from gdq_cli.options import UpscaleOptions

BROKEN = 1
"""Exit code where upscaling does not work."""


def doctor(
    device: DeviceOption = UpscaleOptions.device,
    as_json: JsonOption = False,
) -> None:
    """Look over this installation: versions, devices, the engine and why, self-tests, weights, disk; with remedies."""
    from gdq_cli.measure.doctor import diagnose

    diagnosis = diagnose(device)
    facts = diagnosis.to_dict()
    facts["problems"] = [{key: as_options(text) for key, text in problem.items()} for problem in facts["problems"]]
    if as_json:
        print_json(facts)
    else:
        tell(*_report_lines(facts))
    if not diagnosis.works:
        raise typer.Exit(BROKEN)


def _report_lines(facts: dict[str, Any]) -> list[str]:
    """The diagnosis as lines for people; problems and their remedies last, where they are seen."""
    versions, build, cpu, kernels = (facts[key] for key in ("versions", "torch", "cpu", "kernels"))
    packages = ", ".join(f"{name} {version or 'absent'}" for name, version in versions.items() if name != "system")
    lines = [packages, versions["system"], ""]
    cuda = f"CUDA {build['cuda_build']}" if build["cuda_build"] else "no CUDA"
    onednn = "oneDNN" if build["onednn"] else "no oneDNN"
    lines.append(f"torch      {build['version']}: {cuda}, {onednn}, {build['threads']} threads")
    lines.append(f"processor  {cpu['name']}, {cpu['cores']} cores, {' '.join(cpu['features']) or cpu['machine']}")
    for entry in facts["devices"]:
        memory = f", {entry['memory_gib']} GiB" if "memory_gib" in entry else ""
        lines.append(f"device     {entry['device']}: {entry['name']}{memory}")
    for isa in kernels["instruction_sets"]:
        used = ", in use" if isa["name"] == kernels["chosen"] else ""
        verdict = f"self-test {isa['self_test']}{used}" if isa["runnable"] else "not for this processor"
        lines.append(f"kernels    {isa['name']}: {verdict}")
    if not kernels["built"]:
        lines.append("kernels    not built")
    for entry in facts["engines"]:
        isa = f" ({entry['instruction_set']})" if entry["instruction_set"] else ""
        test = f"self-test: {entry['self_test']}"
        lines.append(f"engine     {entry['model']} on {entry['device']}: {entry['chosen']}{isa}, {test}")
        lines += [f"             {other} passes, too, and is slower" for other in entry["others"]]
        lines += [f"             not {reason}" for reason in entry["rejected"]]
    lines.append(f"weights    {facts['weights']['folder']}")
    for entry in facts["weights"]["files"]:
        size = f"{entry['size'] / 2**20:.1f} MiB" if entry["size"] is not None else "absent"
        lines.append(f"             {entry['file']}: {size}, {'hash right' if entry['ok'] else 'not usable'}")
    lines += [
        f"             {entry['model']}: {entry['place']}, {entry['path']}"
        for entry in facts["weights"].get("others", ())
    ]
    present, absent = ([name for name, here in facts["formats"].items() if here is wanted] for wanted in (True, False))
    without = f"; without {', '.join(absent)}" if absent else ""
    lines.append(f"pictures   {', '.join(present)}{without}")
    for entry in facts["disk"]:
        lines.append(f"disk       {entry['use']}: {entry['path']}, {entry['free_gib']} GiB free")
    for name, value in facts["environment"].items():
        lines.append(f"set        {name}={value}")
    lines.append(
        f"output     {facts['stdout']['encoding']}, {'a' if facts['stdout']['terminal'] else 'not a'} terminal"
    )
    lines.append("")
    for problem in facts["problems"]:
        lines += [f"{problem['level']}: {problem['what']}", f"  remedy: {problem['remedy']}"]
    if not facts["problems"]:
        lines.append("no problems found")
    return lines
