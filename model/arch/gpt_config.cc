#include "model/arch/gpt_config.h"

#include "base/str_cat.h"
#include "model/config_fields.h"

namespace ounce::model {

GptConfig ReadGptConfig(ConfigReader& reader, GptConfig config) {
  config.vocab_size = reader.Int("vocab_size", 1, kMaxVocab, config.vocab_size);
  config.positions = reader.Int("n_positions", "max_position_embeddings", 1,
                                kMaxPositions, config.positions);
  config.width =
      reader.Int("n_embd", "hidden_size", 1, kMaxWidth, config.width);
  config.layers =
      reader.Int("n_layer", "num_hidden_layers", 1, kMaxLayers, config.layers);
  config.heads =
      reader.Int("n_head", "num_attention_heads", 1, kMaxWidth, config.heads);
  config.inner =
      reader.OptionalInt("n_inner", 1, 4 * kMaxWidth, 4 * config.width);
  config.mlp_activation =
      reader.Activation("activation_function", config.activation);
  config.epsilon = reader.Number("layer_norm_epsilon", 0, 1, config.epsilon);
  config.tied = reader.Bool("tie_word_embeddings", config.tied);
  if (reader.status().ok() && config.width % config.heads != 0) {
    reader.Fail(WrongField("n_embd",
                           StrCat("a multiple of n_head = ", config.heads),
                           StrCat(config.width)));
  }
  return config;
}

}  // namespace ounce::model
