"""A picture classifier served, one picture a request: sw2's server beside ONNX Runtime on the exported program.

    sw2 served     `sw2 serve PROGRAM` as its command, in a process of its own, asked over HTTP with a PNG in base64
    onnx served    FastAPI on uvicorn, in a process of its own: the same request, Pillow, ONNX Runtime, the same answer
    sw2            `program(picture)` in a process, from the PNG's bytes
    onnx           ONNX Runtime in a process: Pillow reads the PNG, `model.onnx` of `sw2 export` answers

    python benchmarks/served_classifier.py --threads 1 --requests 500 --rounds 3 [--program PROGRAM]

Without `--program` one is trained on Fashion-MNIST for `--steps` steps: latency does not depend on what it learned.
Both servers stay up, and each request is asked of all sides in turn, over one connection that is kept alive, by one
client. Times are the client's, from before the request is written until its JSON is read, in milliseconds; p50 and p95
are those of each round, and their medians over the rounds. Every answer's label is compared, and a difference ends it.

What it does not do: several clients at once, or batches (`server_soak.py` has many clients).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["main"]

THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Ask = Callable[[bytes], str]


def session(folder: Path, threads: int) -> Ask:
    """A function from a PNG's bytes to the label, by ONNX Runtime."""
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    runs = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    entrance = runs.get_inputs()[0]
    grey = entrance.shape[-1] == 1

    def ask(png: bytes) -> str:
        with Image.open(io.BytesIO(png)) as picture:
            pixels = np.asarray(picture.convert("L" if grey else "RGB"))
        found = runs.run(None, {entrance.name: pixels[..., None] if grey else pixels})[0]
        return str(labels[int(np.argmax(found))])

    return ask


def be_onnx(folder: Path, threads: int) -> None:
    """Serve the exported program; the first line of stdout tells the address."""
    import socket

    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    answers = session(folder, threads)

    class Item(BaseModel):
        image: str

    class Asked(BaseModel):
        inputs: list[Item]

    # Pydantic resolves annotations by the names of the module, and these classes are local.
    Asked.model_rebuild(_types_namespace={"Item": Item})
    app = FastAPI()

    async def run(asked: Asked) -> dict[str, Any]:
        return {"answers": [{"label": answers(base64.b64decode(each.image))} for each in asked.inputs]}

    run.__annotations__["asked"] = Asked
    app.post("/v1/run/classifier")(run)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as sw2's server does
        print(json.dumps({"address": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


@contextlib.contextmanager
def served(command: Sequence[str], threads: int, name: str) -> Iterator[Ask]:
    """Start a server and ask it over one connection."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                raise SystemExit(f"This server did not start: {' '.join(command)}")
            connection = http.client.HTTPConnection("127.0.0.1", int(json.loads(told)["address"].rpartition(":")[2]))

            def ask(png: bytes) -> str:
                body = json.dumps({"inputs": [{"image": base64.b64encode(png).decode()}]})
                connection.request("POST", f"/v1/run/{name}", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
                if response.status != 200:
                    raise SystemExit(f"Status {response.status}: {content.decode()}")
                return str(json.loads(content)["answers"][0]["label"])

            until = time.monotonic() + 60
            while True:  # the address is told before the server listens
                try:
                    connection.connect()
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.1)
            yield ask
            connection.close()
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def pictures(number: int) -> list[bytes]:
    """Test pictures of Fashion-MNIST as PNG."""
    from PIL import Image

    from sw2.domains.vision.data import fashion_mnist

    found = []
    for example in fashion_mnist(lambda question: True).split("test")[:number]:
        file = io.BytesIO()
        Image.fromarray(np.squeeze(example["image"])).save(file, format="PNG")
        found.append(file.getvalue())
    return found


def measured(sides: Mapping[str, Ask], pngs: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Milliseconds of each request; all sides get each picture in turn."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for png in pngs:
        labels = {}
        for side, ask in sides.items():
            began = time.perf_counter()
            labels[side] = ask(png)
            times[side].append(1000 * (time.perf_counter() - began))
        if len(set(labels.values())) != 1:
            raise SystemExit(f"The sides differ: {labels}")
    return {side: np.array(found) for side, found in times.items()}


def main() -> None:
    """Print p50 and p95 of each side and round, and the ratios of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, help="a program for image-classification")
    parser.add_argument("--steps", type=int, default=30, help="of training where there is none")
    parser.add_argument("--requests", type=int, default=500, help="to each side in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of every side")
    parser.add_argument("--be-onnx", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be_onnx:
        be_onnx(asked.be_onnx, asked.threads)
        return

    import torch

    import sw2
    from sw2.verbs.export import export

    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as scratch:
        place, folder = Path(scratch) / "classifier", Path(scratch) / "onnx"
        if asked.program:
            program = sw2.load(asked.program)
        else:
            program = sw2.train("image-classification", "fashion-mnist", steps=asked.steps, out=Path(scratch) / "run")
        program.save(place)
        exported = export(program, folder)
        print(f"exported; largest difference from the program's answers {exported.largest_difference:.1e}")
        here = ["--threads", str(asked.threads)]
        ours = [sys.executable, "-m", "sw2.faces.cli", "serve", str(place), "--port", "0", "--json"]
        theirs = [sys.executable, __file__, "--be-onnx", str(folder), *here]
        pngs = pictures(asked.requests)
        with (
            served(ours, asked.threads, "classifier") as sw2_served,
            served(theirs, asked.threads, "classifier") as onnx_served,
        ):
            sides: dict[str, Ask] = {
                "sw2 served": sw2_served,
                "onnx served": onnx_served,
                "sw2": lambda png: str(program(png)["label"]),
                "onnx": session(folder, asked.threads),
            }
            measured(sides, pngs[:20])
            rounds = [measured(sides, pngs) for _ in range(asked.rounds)]
    middle: dict[str, tuple[float, ...]] = {}
    for side in sides:
        shares = [np.percentile(found[side], (50, 95)) for found in rounds]
        middle[side] = tuple(statistics.median(each) for each in zip(*shares, strict=True))
        told = "  ".join(f"{p50:.2f} {p95:.2f}" for p50, p95 in shares)
        print(f"{side:<14} p50 {middle[side][0]:6.2f} ms  p95 {middle[side][1]:6.2f} ms   (rounds: {told})")
    for one, other in (("sw2 served", "onnx served"), ("sw2 served", "onnx"), ("sw2", "onnx")):
        ratios = [f"{a / b:.2f}" for a, b in zip(middle[one], middle[other], strict=True)]
        print(f"{one} by {other}: p50 {ratios[0]}, p95 {ratios[1]}")


if __name__ == "__main__":
    main()
