// The weights that decoders ask for most.
#ifndef OUNCE_MODEL_DECODER_READ_WEIGHTS_H_
#define OUNCE_MODEL_DECODER_READ_WEIGHTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/decoder/decoder.h"
#include "model/decoder/sizes.h"
#include "model/layers/linear.h"
#include "model/read_layers.h"
#include "model/weights.h"

namespace ounce::model {

// `tokens` and, unless empty, the learned `positions`, for a network whose
// sizes `net` says, and whose net.embedding says what is not usual: cols (0:
// the width) and position_offset.
absl::StatusOr<DecoderEmbedding> ReadEmbeddings(WeightReader& reader,
                                                std::string_view tokens,
                                                std::string_view positions,
                                                const DecoderDescription& net);

// Modules q_proj, k_proj and v_proj of `attention`, joined.
absl::StatusOr<Linear> ReadQkv(WeightReader& reader, std::string_view attention,
                               const DecoderSizes& sizes, bool bias);

// An MLP without a gate.
absl::StatusOr<DecoderMlp> ReadMlp(WeightReader& reader, std::string_view up,
                                   std::string_view down,
                                   const DecoderSizes& sizes, bool bias);

// The head: `module`, or if tied the embedding `tokens` under that name too.
absl::StatusOr<Linear> ReadHead(WeightReader& reader, std::string_view module,
                                int64_t vocab_size, int64_t cols,
                                std::string_view tied_to, bool bias);

// Masks and frequencies of rotary embedding that older releases of transformers
// stored beside the weights. To be called when these have been asked for.
void IgnoreConstants(WeightReader& reader);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DECODER_READ_WEIGHTS_H_
