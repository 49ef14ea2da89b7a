"""Benchmarks: Webfoot beside its peers, in interleaved rounds on one machine."""
