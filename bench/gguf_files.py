"""A transformers model as llama.cpp's files."""

import ctypes
import sys

import gguf
import numpy

LLAMA_LAYERS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm"}
GPT2_LAYERS = {
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down", "ln_1": "attn_norm", "ln_2": "ffn_norm"}
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "transformer.wte.weight": "token_embd.weight", "transformer.wpe.weight": "position_embd.weight",
    "transformer.ln_f.weight": "output_norm.weight", "transformer.ln_f.bias": "output_norm.bias"}


def write_gguf(model, path):
    """In float32, without a tokenizer: of Llama's family or GPT-2, the head tied."""
    config = model.config
    kind = config.model_type
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if kind == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_theta)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in model.state_dict().items():
        values = tensor.numpy().astype(numpy.float32)
        if name == "lm_head.weight":
            continue  # tied
        if name in OUTSIDE:
            writer.add_tensor(OUTSIDE[name], values)
            continue
        _, _, layer, part = name.split(".", 3)
        part, what = part.rsplit(".", 1)
        if part.endswith(("q_proj", "k_proj")):  # its rotary embedding pairs neighbours
            heads = (config.num_attention_heads if part.endswith("q_proj")
                     else config.num_key_value_heads)
            values = numpy.ascontiguousarray(
                values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape))
        if kind == "gpt2" and values.ndim == 2:  # stored with the inputs first
            values = numpy.ascontiguousarray(values.T)
        part = (GPT2_LAYERS if kind == "gpt2" else LLAMA_LAYERS)[part]
        writer.add_tensor(f"blk.{layer}.{part}.{what}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize_gguf(floats, path, what, threads, embedding="F32"):
    """By llama.cpp's own code: all linear layers to `what`, as Q4_1, and the tied embedding."""
    import llama_cpp
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{what}")
    params.nthread = threads
    params.pure = True
    params.token_embedding_type = params.output_tensor_type = int(
        gguf.GGMLQuantizationType[embedding])
    if llama_cpp.llama_model_quantize(str(floats).encode(), str(path).encode(),
                                      ctypes.byref(params)):
        sys.exit(f"llama.cpp could not quantize to {what}")
