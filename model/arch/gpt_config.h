// The keys that the configs of GPT-2 and its early kin share.
#ifndef OUNCE_MODEL_ARCH_GPT_CONFIG_H_
#define OUNCE_MODEL_ARCH_GPT_CONFIG_H_

#include <cstdint>
#include <string>

#include "model/config_reader.h"
#include "quant/matmul.h"

namespace ounce::model {

// Before it is read, the defaults of a config's class.
struct GptConfig {
  int64_t vocab_size = 50257;
  int64_t positions = 1024;
  int64_t width = 768;
  int64_t layers = 12;
  int64_t heads = 12;
  std::string activation = "gelu_new";
  bool tied = true;

  int64_t inner = 0;
  float epsilon = 1e-5f;
  quant::Activation mlp_activation = quant::Activation::kNone;

  int64_t head_dim() const { return width / heads; }
};

// Reads vocab_size, n_positions, n_embd, n_layer, n_head, n_inner (four times
// the width if null), activation_function, layer_norm_epsilon and
// tie_word_embeddings. Errors go to `reader`.
GptConfig ReadGptConfig(ConfigReader& reader, GptConfig defaults);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_ARCH_GPT_CONFIG_H_
