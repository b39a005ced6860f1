"""Open-loop load: a schedule made before the run, sent whatever the server does, and what became of it.

plan.py (what is sent and when), of schedules.py (drawn), trace.py (recorded) and wire.py (the requests) → sender.py, which
starts the process that sends: sender_process.py (its main), sender_run.py (the loop), sender_connections.py (its sockets),
sender_answers.py (what it reads of answers), sender_rows.py (what it writes down) → record.py (what it saw) → analysis.py
(rates, goodput, percentiles) → verdict.py, search.py (the highest rate under an objective) → document.py, report.py, plots.py
(JSON, HTML). While it runs: live.py (a line a second), scrape.py (the server's batches).
"""
