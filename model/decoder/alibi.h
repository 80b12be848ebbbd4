// Attention with linear biases (Press et al., 2022): what is added to a head's
// scores, by the key's position. It grows along the text where the paper's
// falls with the distance; softmax does not see the difference.
#ifndef OUNCE_MODEL_DECODER_ALIBI_H_
#define OUNCE_MODEL_DECODER_ALIBI_H_

#include <cstdint>
#include <vector>

#include "model/config_reader.h"
#include "model/decoder/sizes.h"

namespace ounce::model {

// Whose arithmetic it is that a decoder adds.
enum class AlibiForm { kNone, kBloom, kFalcon };

// Fails if all biases would take more than 16 MiB, which those of no known
// model do.
void CheckAlibi(ConfigReader& reader, const DecoderSizes& sizes);

// [heads, positions], as transformers' modeling_bloom.py computes it in
// float32.
std::vector<float> AlibiBias(int64_t heads, int64_t positions);

// The same as modeling_falcon.py has it: slopes, positions and their products
// rounded to bfloat16, then divided as the scores are.
std::vector<float> FalconAlibiBias(int64_t heads, int64_t positions,
                                   float score_divisor);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DECODER_ALIBI_H_
