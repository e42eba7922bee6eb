"""The peers, measured fairly: each in an environment of its own, at its own best settings, alternating with Sanderling.

`python -m sanderling_bench.peers` does it all; `docs/benchmarks.md` is what it writes.
"""
