"""Open-loop load: a schedule made before the run, sent whatever the server does, and what became of it.

plan.py (what is sent and when) → sender.py (the process that sends) → record.py (what it saw) → analysis.py (rates,
goodput, percentiles) → search.py (the highest rate under an objective) → verdict.py (was it kept) → document.py (JSON) →
report.py (HTML), plots.py. While a run lasts: live.py shows it, scrape.py reads the server's batch sizes.
"""
