"""An engine beside Ounce in a process of its own: peers.py KIND CHECKPOINT FOLDER THREADS.

It converts the checkpoint into FOLDER if that isn't there yet, loads it, and writes one
line of JSON, {"name": ...}. Then each line that comes is work, and is answered by one:

  {"streams": 8, "prompt": 32, "new_tokens": 33}  ->  {"tokens": [[seconds, ...], ...]}
  {}, of a detector                               ->  {"seconds": ..., "scores": [...]}

KINDS lists the engines; each imports what it is of, and nothing else. What libraries
print goes to stderr. bench/workers.py has the other end.
"""

import ctypes
import io
import json
import os
import pathlib
import signal
import sys
import time

import numpy

from streams import Times, prompt

PR_SET_PDEATHSIG = 1  # of Linux
PICTURE = (1, 3, 800, 1066)  # pixels of bench/pictures.py as DETR wants them


class CTranslate2:
    def __init__(self, checkpoint, folder, threads):
        import ctranslate2
        self.name = f"CTranslate2 {ctranslate2.__version__} int8"
        converted = folder / "ctranslate2"
        if not (converted / "model.bin").exists():
            ctranslate2.converters.TransformersConverter(str(checkpoint)).convert(
                str(converted), quantization="int8", force=True)
        self.generator = ctranslate2.Generator(
            str(converted), compute_type="int8", inter_threads=1, intra_threads=threads)
        self.vocabulary = json.loads((converted / "vocabulary.json").read_text())

    def run(self, streams, length, new_tokens):
        prompts = [[self.vocabulary[i] for i in prompt(length, s)] for s in range(streams)]
        times = Times(streams)
        self.generator.generate_batch(
            prompts, max_length=new_tokens, min_length=new_tokens, beam_size=1, sampling_topk=1,
            max_batch_size=streams, include_prompt_in_result=False,
            callback=lambda step: times.note(step.batch_id))
        return times


class Stepped:
    """A model that is asked step by step, all streams of one length: `begin` forgets what was,
    `step` takes the new ids [streams, n] and gives the logits of the last [streams, vocabulary]."""

    def run(self, streams, length, new_tokens):
        ids = numpy.array([prompt(length, s) for s in range(streams)], numpy.int64)
        times = Times(streams)
        self.begin(streams)
        for _ in range(new_tokens):
            ids = self.step(ids).argmax(-1).reshape(streams, 1).astype(numpy.int64)
            for stream in range(streams):
                times.note(stream)
        return times


class Transformers(Stepped):
    def __init__(self, checkpoint, folder, threads, dtype):
        import torch
        import transformers
        self.torch = torch
        self.name = f"transformers {transformers.__version__} {dtype}"
        torch.set_num_threads(threads)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=getattr(torch, dtype)).eval()

    def begin(self, _):
        self.cache = None

    def step(self, ids):
        with self.torch.inference_mode():
            output = self.model(self.torch.from_numpy(ids), past_key_values=self.cache,
                                use_cache=True, logits_to_keep=1)
        self.cache = output.past_key_values
        return output.logits[:, -1].float().numpy()


class OpenVino(Stepped):
    """As optimum-intel exports it, its weights compressed by NNCF; of the prompt it computes the
    logits of the last token alone, as openvino-genai has it do."""

    def __init__(self, checkpoint, folder, threads, precision):
        import openvino
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]} {precision}"
        hints = {"float32": {"INFERENCE_PRECISION_HINT": "f32"},
                 "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"}}
        compiled = openvino.Core().compile_model(
            self._converted(openvino, checkpoint, folder, precision), "CPU",
            {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
             **hints.get(precision, {})})  # of codes, what it chooses itself
        self.request = compiled.create_infer_request()

    def _converted(self, openvino, checkpoint, folder, precision):
        floats = folder / "openvino"
        if not (floats / "sliced.xml").exists():
            from optimum.intel import OVModelForCausalLM
            OVModelForCausalLM.from_pretrained(
                checkpoint, export=True, compile=False, load_in_8bit=False).save_pretrained(floats)
            model = openvino.Core().read_model(floats / "openvino_model.xml")
            self._keep_last(openvino, model)
            openvino.save_model(model, floats / "sliced.xml", compress_to_fp16=False)
        if precision in ("float32", "bfloat16"):
            return floats / "sliced.xml"
        compressed = folder / f"openvino-{precision}.xml"
        if not compressed.exists():
            import nncf
            how = ({"mode": nncf.CompressWeightsMode.INT8_SYM} if precision == "int8" else
                   {"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 64, "ratio": 1.0})
            model = nncf.compress_weights(openvino.Core().read_model(floats / "sliced.xml"), **how)
            openvino.save_model(model, compressed, compress_to_fp16=False)
        return compressed

    @staticmethod
    def _keep_last(openvino, model):
        head = model.output("logits").get_node()
        while head.get_type_name() != "MatMul":
            head = head.input_value(0).get_node()
        last = openvino.opset8.slice(head.input_value(0), numpy.array([-1]),
                                     numpy.array([2**31 - 1]), numpy.array([1]), numpy.array([1]))
        head.input(0).replace_source_output(last.output(0))
        model.validate_nodes_and_infer_types()

    def begin(self, streams):
        self.request.reset_state()
        self.done = 0
        self.inputs = {"beam_idx": numpy.arange(streams, dtype=numpy.int32)}

    def step(self, ids):
        streams, count = ids.shape
        positions = numpy.arange(self.done, self.done + count, dtype=numpy.int64)
        self.done += count
        self.inputs |= {
            "input_ids": ids, "position_ids": numpy.tile(positions, (streams, 1)),
            "attention_mask": numpy.ones((streams, self.done), numpy.int64)}
        wanted = {name for port in self.request.model_inputs for name in port.names}
        result = self.request.infer({k: v for k, v in self.inputs.items() if k in wanted},
                                    share_inputs=True, share_outputs=True)
        return result["logits"][:, -1]


class OnnxRuntime(Stepped):
    """As optimum exports it, keys and values bound so that they stay where they are."""

    def __init__(self, checkpoint, folder, threads, precision):
        import onnxruntime
        self.onnxruntime = onnxruntime
        self.name = f"ONNX Runtime {onnxruntime.__version__} {precision}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            self._converted(checkpoint, folder, precision), options, ["CPUExecutionProvider"])
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.outputs = [o.name for o in self.session.get_outputs()]

    def _converted(self, checkpoint, folder, precision):
        floats = folder / "onnx"
        if not (floats / "sliced.onnx").exists():
            import onnx
            from optimum.exporters.onnx import main_export
            main_export(str(checkpoint), floats, task="text-generation-with-past", dtype="fp32",
                        do_validation=False)
            model = onnx.load(floats / "model.onnx")
            self._keep_last(onnx, model)
            onnx.save(model, floats / "sliced.onnx", save_as_external_data=True,
                      location="sliced.data")
        if precision == "float32":
            return floats / "sliced.onnx"
        quantized = folder / "onnx-int8.onnx"
        if not quantized.exists():
            from onnxruntime import quantization
            quantization.quantize_dynamic(
                floats / "sliced.onnx", quantized, op_types_to_quantize=["MatMul"],
                per_channel=True, use_external_data_format=True)
        return quantized

    @staticmethod
    def _keep_last(onnx, model):
        makers = {output: node for node in model.graph.node for output in node.output}
        head = makers["logits"]
        while head.op_type != "MatMul":
            head = next(makers[name] for name in head.input if name in makers)
        names = [f"last_{what}" for what in ("start", "end", "axis")]
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(numpy.array([value], numpy.int64), name)
            for name, value in zip(names, (-1, 2**31 - 1, 1)))
        node = onnx.helper.make_node("Slice", [head.input[0], *names], ["last_hidden"])
        head.input[0] = "last_hidden"
        model.graph.node.insert(list(model.graph.node).index(head), node)

    def begin(self, streams):
        self.done = 0
        self.kept = {}
        for name, port in self.inputs.items():
            if name.startswith("past_key_values"):
                shape = [streams, port.shape[1], 0, port.shape[3]]
                self.kept[name] = self.onnxruntime.OrtValue.ortvalue_from_numpy(
                    numpy.zeros(shape, numpy.float32))

    def step(self, ids):
        streams, count = ids.shape
        positions = numpy.arange(self.done, self.done + count, dtype=numpy.int64)
        self.done += count
        binding = self.session.io_binding()
        for name, value in {
                "input_ids": ids, "position_ids": numpy.tile(positions, (streams, 1)),
                "attention_mask": numpy.ones((streams, self.done), numpy.int64)}.items():
            if name in self.inputs:
                binding.bind_cpu_input(name, numpy.ascontiguousarray(value))
        for name, value in self.kept.items():
            binding.bind_ortvalue_input(name, value)
        for name in self.outputs:
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        found = dict(zip(self.outputs, binding.get_outputs()))
        self.kept = {name: found[name.replace("past_key_values", "present")] for name in self.kept}
        return found["logits"].numpy()[:, -1]


class LlamaCpp:
    """llama.cpp out of llama-cpp-python, compiled on this machine for its CPU; the linear layers
    in one type, the tied embedding in Q8_0. One stream."""

    def __init__(self, checkpoint, folder, threads, what):
        import llama_cpp

        from gguf_files import quantize_gguf, write_gguf
        self.llama = llama = llama_cpp
        self.name = f"llama.cpp ({llama.__version__}) {what}"
        self.quiet = llama.llama_log_callback(lambda *_: None)  # it must live
        llama.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama.llama_backend_init()
        path = folder / f"{what}.gguf"
        if not path.exists():
            import torch
            import transformers
            floats = folder / "float32.gguf"
            write_gguf(transformers.AutoModelForCausalLM.from_pretrained(
                checkpoint, dtype=torch.float32), floats)
            quantize_gguf(floats, path, what, threads, embedding="Q8_0")
            floats.unlink()
        self.model = llama.llama_model_load_from_file(
            str(path).encode(), llama.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        params = llama.llama_context_default_params()
        params.n_ctx = 1024
        params.n_threads = params.n_threads_batch = threads
        self.context = llama.llama_init_from_model(self.model, params)
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))

    def run(self, streams, length, new_tokens):
        llama = self.llama
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        times = Times(streams)
        ids = prompt(length)
        for _ in range(new_tokens):
            tokens = (llama.llama_token * len(ids))(*ids)
            if llama.llama_decode(self.context, llama.llama_batch_get_one(tokens, len(ids))):
                sys.exit("llama.cpp could not decode")
            logits = llama.llama_get_logits_ith(self.context, -1)
            ids = [int(numpy.ctypeslib.as_array(logits, shape=(self.vocabulary,)).argmax())]
            times.note(0)
        return times


class Detector:
    """A DETR that is asked for the logits of one picture, prepared."""

    def __init__(self, checkpoint):
        import transformers
        from PIL import Image

        from pictures import picture_file
        processor = transformers.DetrImageProcessor.from_pretrained(checkpoint)
        picture = Image.open(io.BytesIO(picture_file()))
        self.pixels = processor(picture, return_tensors="np")["pixel_values"]
        if self.pixels.shape != PICTURE:
            sys.exit(f"{checkpoint}: its image processor gives {self.pixels.shape}, {PICTURE} wanted")

    def detect(self):
        started = time.perf_counter()
        logits = self.forward()
        seconds = time.perf_counter() - started
        # Of each query, the probability of its best label.
        odds = numpy.exp(logits - logits.max(-1, keepdims=True))
        odds /= odds.sum(-1, keepdims=True)
        return seconds, sorted(odds[..., :-1].max(-1).ravel().tolist())


def detr_as_onnx(checkpoint, folder):
    path = folder / "detr.onnx"
    if not path.exists():
        import torch
        import transformers

        class Forward(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = transformers.DetrForObjectDetection.from_pretrained(
                    checkpoint, dtype=torch.float32).eval()

            def forward(self, pixel_values):
                output = self.model(pixel_values)
                return output.logits, output.pred_boxes

        with torch.inference_mode():
            torch.onnx.export(Forward(), (torch.zeros(*PICTURE),), path, dynamo=False,
                              input_names=["pixel_values"], output_names=["logits", "pred_boxes"])
    return path


class TransformersDetector(Detector):
    def __init__(self, checkpoint, folder, threads, dtype):
        super().__init__(checkpoint)
        import torch
        import transformers
        self.torch, self.dtype = torch, getattr(torch, dtype)
        self.name = f"transformers {transformers.__version__} {dtype}"
        torch.set_num_threads(threads)
        self.model = transformers.DetrForObjectDetection.from_pretrained(
            checkpoint, dtype=self.dtype).eval().to(memory_format=torch.channels_last)
        self.inputs = torch.from_numpy(self.pixels).to(self.dtype).to(
            memory_format=torch.channels_last)

    def forward(self):
        with self.torch.inference_mode():
            return self.model(self.inputs).logits.float().numpy()


class OpenVinoDetector(Detector):
    def __init__(self, checkpoint, folder, threads, precision):
        super().__init__(checkpoint)
        import openvino
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]} {precision}"
        hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
        self.request = openvino.Core().compile_model(detr_as_onnx(checkpoint, folder), "CPU", {
            "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()

    def forward(self):
        return self.request.infer([self.pixels])["logits"]


class OnnxRuntimeDetector(Detector):
    def __init__(self, checkpoint, folder, threads):
        super().__init__(checkpoint)
        import onnxruntime
        self.name = f"ONNX Runtime {onnxruntime.__version__} float32"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            detr_as_onnx(checkpoint, folder), options, ["CPUExecutionProvider"])

    def forward(self):
        return self.session.run(["logits"], {"pixel_values": self.pixels})[0]


# By what bench/rows.py calls them: the class, and what else it is told.
KINDS = {
    "ctranslate2-int8": (CTranslate2,),
    "transformers-float32": (Transformers, "float32"),
    "transformers-bfloat16": (Transformers, "bfloat16"),
    "openvino-float32": (OpenVino, "float32"),
    "openvino-bfloat16": (OpenVino, "bfloat16"),
    "openvino-int8": (OpenVino, "int8"),
    "openvino-int4": (OpenVino, "int4"),
    "onnxruntime-float32": (OnnxRuntime, "float32"),
    "onnxruntime-int8": (OnnxRuntime, "int8"),
    "llamacpp-q4_1": (LlamaCpp, "Q4_1"),
    "llamacpp-q8_0": (LlamaCpp, "Q8_0"),
    "detr-transformers-float32": (TransformersDetector, "float32"),
    "detr-transformers-bfloat16": (TransformersDetector, "bfloat16"),
    "detr-openvino-float32": (OpenVinoDetector, "float32"),
    "detr-openvino-bfloat16": (OpenVinoDetector, "bfloat16"),
    "detr-onnxruntime-float32": (OnnxRuntimeDetector,),
}


def answer(engine, work):
    if work:
        times = engine.run(work["streams"], work["prompt"], work["new_tokens"])
        return {"tokens": times.tokens}
    seconds, scores = engine.detect()
    return {"seconds": seconds, "scores": scores}


def main():
    kind, checkpoint, folder, threads = sys.argv[1:]
    # It stands still most of the time: it must end with the program that asks it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    make, *more = KINDS[kind]
    engine = make(pathlib.Path(checkpoint), pathlib.Path(folder), int(threads), *more)
    print(json.dumps({"name": engine.name}), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
