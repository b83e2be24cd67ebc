"""Torch, GPU, CPU and the engine's own kernels, tried in a process of their own: what is broken there is a finding."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from hugging_llama_cli.checks.finding import Finding, Level, Subject, ok, problem, try_out, warning
from hugging_llama_config.hardware import KERNEL_FLAGS, cpu_flags
from hugging_llama_config.launch import available_cores, engine_environment, num_threads
from hugging_llama_config.units import format_bytes

_TIMEOUT_S = 180.0
_SMI_TIMEOUT_S = 20.0
_INSTALL_TORCH = "https://pytorch.org/get-started/locally/ says how to install torch"
_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
# two lines of JSON: what torch says of itself, then what the engine makes of its kernels
_SCRIPT = """
import json, logging, warnings

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import torch

    facts = {"version": torch.__version__, "cuda": torch.version.cuda, "hip": getattr(torch.version, "hip", None)}
    facts["sum"] = float((torch.ones(8, 8) @ torch.ones(8, 8)).sum())
    facts["mps"] = bool(torch.backends.mps.is_available())
    facts["devices"], facts["error"] = [], ""
    try:
        if torch.cuda.is_available():
            for i in range(torch.cuda.device_count()):
                free, total = torch.cuda.mem_get_info(i)
                facts["devices"].append([torch.cuda.get_device_name(i), free, total])
                float((torch.ones(8, 8, device=f"cuda:{i}") @ torch.ones(8, 8, device=f"cuda:{i}")).sum())
    except Exception as error:
        facts["error"] = str(error).splitlines()[0]
    facts["said"] = [str(one.message).splitlines()[0] for one in said]
print(json.dumps(facts), flush=True)

logging.basicConfig(level=logging.INFO)
from hugging_llama.engine.native.library import library
from hugging_llama.engine.native.probe import Family, native_families

log = []
handler = logging.Handler()
handler.emit = lambda record: log.append(record.getMessage())
logging.getLogger("hugging_llama").addHandler(handler)
good = {family.value for family in native_families()}
print(json.dumps({"is_loaded": library() is not None, "good": sorted(good), "log": log,
                  "bad": sorted(family.value for family in Family if family.value not in good)}))
"""


_Gpu = tuple[str, str, str]
_Trial = tuple[dict[str, Any] | None, dict[str, Any] | None, str]


class Compute:
    """The checks that share one trial, which takes seconds, and one question to the driver."""

    def __init__(self) -> None:
        self._told: _Trial | None = None
        self._gpus: list[_Gpu] | None = None

    def _trial(self, subject: Subject) -> _Trial:
        if self._told is None:
            self._told = _try_torch(subject)
        return self._told

    def _nvidia_gpus(self, subject: Subject) -> list[_Gpu]:
        if self._gpus is None:
            self._gpus = nvidia_gpus(subject.environ)
        return self._gpus

    def check_torch(self, subject: Subject) -> Iterator[Finding]:
        """Whether torch works, and whether it is the build for this machine."""
        torch, _, reason = self._trial(subject)
        if torch is None:
            yield problem(f"torch does not work: {reason}", f"install it again: {_INSTALL_TORCH}")
            return
        build = f"CUDA {torch['cuda']}" if torch["cuda"] else "ROCm" if torch["hip"] else "CPU"
        found = f"torch {torch['version']}, a build for {build}"
        gpus = self._nvidia_gpus(subject)
        if gpus and build == "CPU":
            yield warning(f"{found}, while there is an {gpus[0][0]}", f"install a build for CUDA: {_INSTALL_TORCH}")
        else:
            yield ok(found)

    def check_gpu(self, subject: Subject) -> Iterator[Finding]:
        """What models will run on, and whether that is what the settings want."""
        torch, _, _ = self._trial(subject)
        wanted, gpus = subject.settings.device, self._nvidia_gpus(subject)
        for name, driver, memory in gpus:
            yield ok(f"{name}, {memory} MiB, driver {driver}")
        if torch is None:
            return
        yield from _torch_gpus(torch, has_driver=bool(gpus))
        has_cuda = bool(torch["devices"]) and not torch["error"]
        if wanted == "cuda" and not has_cuda:
            yield problem("the device shall be cuda, and torch can use none", "set device = auto or cpu, or see above")
        elif wanted == "mps" and not torch["mps"]:
            yield problem("the device shall be mps, and torch can use none", "set device = auto or cpu")
        elif not gpus and not has_cuda and not torch["mps"]:
            yield ok("no GPU that torch can use: models run on the CPU")
        elif torch["mps"] and wanted in ("auto", "mps"):
            yield ok("models run on mps")

    def check_kernels(self, subject: Subject) -> Iterator[Finding]:
        """Whether the engine's CPU kernels are there and used."""
        torch, kernels, reason = self._trial(subject)
        if torch is None:
            return
        missing = sorted(KERNEL_FLAGS - cpu_flags())
        if kernels is None:
            yield problem(
                f"the engine can't be imported: {reason}", "pip install --force-reinstall --no-deps hugging-llama"
            )
        elif missing:
            yield ok(f"this processor has no {', '.join(missing)}: torch's operators are used, and our kernels are not")
        elif not kernels["is_loaded"]:
            said = kernels["log"][0] if kernels["log"] else "no native kernels"
            yield warning(
                f"{said}: the engine is slower than it could be on this CPU",
                "install a C compiler (apt install gcc), then 'pip install --force-reinstall --no-deps hugging-llama'",
            )
        elif kernels["bad"]:
            yield warning(f"kernels that are not used: {', '.join(kernels['bad'])}", _reason_of(kernels))
        else:
            yield ok(f"native kernels are compiled and used: {', '.join(kernels['good'])}")


def check_cpu(subject: Subject) -> Iterator[Finding]:
    """Cores, threads and the instructions that matter."""
    flags, cores = cpu_flags(), available_cores()
    shown = [
        name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16") if name in flags
    ]
    threads = num_threads(subject.settings)
    found = f"{cores} core{'s' * (cores != 1)}, {threads} for the engine; {', '.join(shown) or 'no AVX'}"
    if threads > cores:
        yield warning(found, f"num_threads = {cores} at most: threads beyond the cores wait for each other")
    else:
        yield ok(found)


def nvidia_gpus(environ: Mapping[str, str]) -> list[_Gpu]:
    """Name, driver and MiB of each GPU that nvidia-smi knows; none without it."""
    ended = try_out(_NVIDIA_SMI, environ, _SMI_TIMEOUT_S)
    rows = [tuple(part.strip() for part in line.split(",")) for line in ended.lines if not ended.reason]
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


def _torch_gpus(torch: dict[str, Any], *, has_driver: bool) -> Iterator[Finding]:
    if torch["error"]:
        yield problem(f"torch can't compute on the GPU: {torch['error']}", f"a build for this GPU: {_INSTALL_TORCH}")
        return
    for name, free, total in torch["devices"]:
        is_full = free < total // 10
        found = f"torch computes on {name}, {format_bytes(free)} of {format_bytes(total)} free"
        advice = "nvidia-smi says which processes hold it"
        yield Finding(Level.WARNING if is_full else Level.OK, found, advice if is_full else "")
    if has_driver and torch["cuda"] and not torch["devices"]:
        said = torch["said"][-1] if torch["said"] else "it does not say why"
        yield problem(
            f"torch for CUDA {torch['cuda']} sees no GPU: {said}",
            "update the NVIDIA driver, or install a torch for the CUDA that it knows (nvidia-smi, top right)",
        )


def _reason_of(kernels: dict[str, Any]) -> str:
    said = [line for line in kernels["log"] if "not used" in line]
    return f"report this: {said[0]}" if said else "report this, with the engine's log"


def _try_torch(subject: Subject) -> _Trial:
    """What torch says, what the engine says of its kernels, and why one of them says nothing."""
    environ = engine_environment(subject.settings, subject.environ)
    ended = try_out([sys.executable, "-P", "-c", _SCRIPT], environ, _TIMEOUT_S)
    found = [json.loads(line) for line in ended.lines if line.startswith("{")]
    torch, kernels = (*found, None, None)[:2]
    return torch, kernels, ended.reason
