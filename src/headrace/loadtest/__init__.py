"""Open-loop load: a schedule made before the run, sent whatever the server does, and what became of it.

plan.py (what is sent and when) → sender.py (the process that sends) → record.py (what it saw) → analysis.py (rates,
goodput, percentiles) → search.py (the highest rate under an objective) → report.py (HTML, plots).
"""
