"""The command line: main.py is the door; serve.py, models.py and infer.py are the commands.

options.py makes options of the settings. survey.py loads models as the server would and tree.py draws what it found;
query.py and values.py make a request, client.py sends it and answers.py shows the answer. bench.py is a load test:
bench_options.py and load.py read what is asked, pinning.py chooses the generator's core, load_test.py runs it and
load_figures.py shows what came of it.
"""
