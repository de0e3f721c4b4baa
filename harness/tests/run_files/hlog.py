"""Reads run.hlog with another implementation of HdrHistogram, and prints what it
found per tag, as JSON. Exit status 77: that implementation is not installed
(pip install hdrhistogram)."""

import json
import sys

try:
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader
except ImportError:
    sys.exit(77)

# As the writer's: 1 ns to 60 s, three digits.
BOUNDS = (1, 60_000_000_000, 3)
QUANTILES = {
    "p50_ns": 50, "p75_ns": 75, "p90_ns": 90, "p99_ns": 99, "p99_9_ns": 99.9,
    "p99_99_ns": 99.99, "p99_999_ns": 99.999, "max_ns": 100,
}

sums, lines = {}, {}
reader = HistogramLogReader(sys.argv[1], HdrHistogram(*BOUNDS))
while (interval := reader.get_next_interval_histogram()) is not None:
    tag = interval.get_tag()
    sums.setdefault(tag, HdrHistogram(*BOUNDS)).add(interval)
    lines[tag] = lines.get(tag, 0) + 1

found = {}
for tag, h in sums.items():
    found[tag] = {name: h.get_value_at_percentile(q) for name, q in QUANTILES.items()}
    found[tag].update(count=h.get_total_count(), mean_ns=h.get_mean_value(), lines=lines[tag])
json.dump(found, sys.stdout)
