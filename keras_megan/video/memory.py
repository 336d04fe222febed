"""How much memory the network may use, from what the system reports as free."""

import os
from pathlib import Path

_SHARE = 0.4
_MOST = 8 * 2**30
_UNKNOWN = 4 * 2**30


def memory_to_use() -> int:
    """Bytes: 40 percent of what is free now, at most 8 GiB.

    More would not be faster.
    """
    return min(int(available_memory() * _SHARE), _MOST)


def available_memory() -> int:
    """Bytes that can be used without swapping, as the system reports them."""
    amounts = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                amounts.append(int(line.split()[1]) * 1024)
    limit, used = (Path("/sys/fs/cgroup", f"memory.{n}") for n in ("max", "current"))
    if limit.exists() and used.exists():
        text = limit.read_text(encoding="ascii").strip()
        if text.isdigit():
            amounts.append(int(text) - int(used.read_text(encoding="ascii")))
    if not amounts and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        amounts.append(total // 2)
    return max(0, min(amounts)) if amounts else _UNKNOWN
