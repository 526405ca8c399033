"""Serve a GGUF model by llama.cpp's server, and answer for it in process.

Runs in the environment that tests/environment.sh makes for texts. It prints the URL; for each line
`[ids]` it then prints, as the same engine gives them in process, the log-probability of each token
after the first, read from the list of the most probable ones: null where the token is not there,
since a list of the whole vocabulary takes seconds.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

# Read when the file runs, in the environment that has it; doctests import the file elsewhere

if __name__ == "__main__":
    parameters = import_module("xllamacpp").CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.n_ctx, parameters.n_parallel = 1024, 2
    parameters.cpuparams.n_threads = 1
    parameters.warmup = False
    parameters.hostnames, parameters.port = ["127.0.0.1"], int(sys.argv[2])
    server = import_module("xllamacpp").Server(parameters)
    print(server.listening_address, flush=True)
    for line in sys.stdin:
        ids, values = json.loads(line), []
        for place in range(1, len(ids)):
            asked = {
                "prompt": ids[:place],
                "max_tokens": 1,
                "n_predict": 1,
                "temperature": 0,
                "logprobs": 2000,
                "cache_prompt": False,
            }
            answer = server.handle_completions(asked)
            tops = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            values.append(next((top["logprob"] for top in tops if top["id"] == ids[place]), None))
        print(json.dumps(values), flush=True)
