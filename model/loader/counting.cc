#include "model/loader/counting.h"

#include "quant/registry.h"

namespace ounce::model {
namespace {

using quant::DType;

int64_t BufferBytes(const MaskBuffers& buffers, DType dtype) {
  return buffers.bools + buffers.floats * quant::SizeOf(dtype);
}

int64_t BytesBefore(const CountedTensor& tensor, const CountingRule& rule) {
  if (tensor.is_second) return 0;
  if (tensor.coded_bytes.has_value() && !rule.before.has_value()) {
    return *tensor.coded_bytes;
  }
  return tensor.rows * tensor.cols *
         quant::SizeOf(rule.before.value_or(tensor.dtype));
}

// Absent if the tensor's spec has no codes in the rule's dtype.
std::optional<int64_t> BytesAfter(const CountedTensor& tensor,
                                  const CountingRule& rule) {
  if (tensor.is_folded) return 0;
  const DType dtype = rule.after.value_or(tensor.dtype);
  const quant::MethodSpec spec = tensor.kept && !tensor.coded_bytes.has_value()
                                     ? quant::FloatMethodFor(dtype)
                                     : tensor.spec;
  absl::StatusOr<quant::CodeFormat> format =
      spec.Format(tensor.rows, tensor.cols, dtype);
  if (!format.ok()) return std::nullopt;
  if (tensor.packed_bytes) format->packed_bytes = tensor.packed_bytes;
  if (rule.codes_alone) {
    format->fields.clear();
    format->constant_bytes = 0;
  }
  return format->StoredBytes(tensor.rows, tensor.cols);
}

std::optional<Footprint> FootprintOf(absl::Span<const CountedTensor> tensors,
                                     const MaskBuffers& buffers,
                                     const CountingRule& rule) {
  Footprint footprint = {.rule = &rule};
  for (const CountedTensor& tensor : tensors) {
    const std::optional<int64_t> after = BytesAfter(tensor, rule);
    if (!after.has_value()) return std::nullopt;
    footprint.before += BytesBefore(tensor, rule);
    footprint.after += *after;
  }
  if (rule.mask_buffers && !tensors.empty()) {
    const DType dtype = tensors[0].dtype;
    footprint.before += BufferBytes(buffers, rule.before.value_or(dtype));
    footprint.after += BufferBytes(buffers, rule.after.value_or(dtype));
  }
  return footprint;
}

}  // namespace

absl::Span<const CountingRule> CountingRules() {
  static const CountingRule kRules[] = {
      {.name = "ounce",
       .help = "the checkpoint's dtypes; no buffers; all that a file of the "
               "codes would hold"},
      {.name = "float16-base",
       .help = "... as if the checkpoint was in 16 bits",
       .before = DType::kF16,
       .after = DType::kF16},
      {.name = "float32-base",
       .help = "... as if the checkpoint was in float32, scales too",
       .before = DType::kF32,
       .after = DType::kF32},
      {.name = "mask-buffers",
       .help = "as ounce, with the causal masks that older transformers kept",
       .mask_buffers = true},
      {.name = "float32-base-mask-buffers",
       .help = "as float32-base, with these masks",
       .before = DType::kF32,
       .after = DType::kF32,
       .mask_buffers = true},
      {.name = "bitsandbytes",
       .help = "what get_memory_footprint() says of float32, and of what "
               "bitsandbytes loads in 16 bits: codes without scales; with the "
               "masks, if any",
       .before = DType::kF32,
       .after = DType::kF16,
       .mask_buffers = true,
       .codes_alone = true},
  };
  return kRules;
}

std::vector<Footprint> CountFootprints(absl::Span<const CountedTensor> tensors,
                                       const MaskBuffers& buffers) {
  const bool has_buffers = buffers.bools > 0 || buffers.floats > 0;
  std::vector<Footprint> footprints;
  for (const CountingRule& rule : CountingRules()) {
    // It would be another's figure.
    if (rule.mask_buffers && !has_buffers && !rule.codes_alone) continue;
    const std::optional<Footprint> footprint =
        FootprintOf(tensors, buffers, rule);
    if (footprint.has_value()) footprints.push_back(*footprint);
  }
  return footprints;
}

}  // namespace ounce::model
