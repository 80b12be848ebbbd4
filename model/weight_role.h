// What a weight matrix is for.
#ifndef OUNCE_MODEL_WEIGHT_ROLE_H_
#define OUNCE_MODEL_WEIGHT_ROLE_H_

namespace ounce::model {

// By default only kLinear is quantized; kHead (lm_head, a detector's
// classifiers) and kEmbedding stay as the checkpoint has them, and so do
// convolutions unless asked for. Rows of these two serve a label or a token
// each, so floats keep NaN and infinite values there.
enum class WeightRole { kLinear, kHead, kEmbedding, kConvolution };

}  // namespace ounce::model

#endif  // OUNCE_MODEL_WEIGHT_ROLE_H_
