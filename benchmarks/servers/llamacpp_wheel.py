"""Runs llama.cpp's server out of the xllamacpp wheel, by the interpreter of the environment that has it.

python llamacpp_wheel.py MODEL PORT SLOTS CONTEXT THREADS [ADAPTER …]
"""

import signal
import sys

import xllamacpp


def main(model: str, port: str, slots: str, context: str, threads: str, *adapters: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port, params.hostnames = int(port), ["127.0.0.1"]
    params.n_parallel, params.n_ctx = int(slots), int(context)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(file, 1.0) for file in adapters]
    params.kv_unified = True
    params.lora_init_without_apply = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
