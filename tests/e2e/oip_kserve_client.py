"""Asks a server at HOST:PORT by KServe's own client. In a process of its own: kserve
and tritonclient have messages of the same names."""

from __future__ import annotations

import asyncio
import sys

import grpc
import kserve
import numpy

PROMPT = b"def fibonacci(n):\n"


async def ask(address: str, picture: bytes) -> None:
    async with kserve.InferenceGRPCClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("code")
        assert not await client.is_model_ready("none")

        async def infer(model: str, tensor: kserve.InferInput, **parameters):
            request = kserve.InferRequest(
                model, [tensor], request_id="5", parameters=parameters or None
            )
            answer = await client.infer(request)
            assert answer.id == "5" and answer.model_version == "1"
            return {output.name: output.as_numpy() for output in answer.outputs}

        texts = []
        raw = kserve.InferInput("text_input", [1], "BYTES")
        raw.set_data_from_numpy(numpy.array([PROMPT], dtype=numpy.object_))
        for tensor in (raw, kserve.InferInput("text_input", [1], "BYTES", data=[PROMPT])):
            outputs = await infer("code", tensor, max_tokens=5, temperature="0")
            assert outputs["num_output_tokens"][0] == 5
            texts.append(outputs["text_output"][0])
        assert texts[0] == texts[1] != b""

        found = await infer("shapes", kserve.InferInput("image", [1], "BYTES", data=[picture]))
        assert found["boxes"].shape == (len(found["labels"]), 4) and len(found["labels"]) > 0
        try:
            await infer("code", raw, top_p="2")
            raise AssertionError("top_p of 2 was taken")
        except grpc.RpcError as error:
            assert error.details() == "top_p: must be from 0 to 1, is 2", error.details()
        print("text", texts[0], "labels", list(found["labels"]))


with open(sys.argv[2], "rb") as file:
    asyncio.run(ask(sys.argv[1], file.read()))
