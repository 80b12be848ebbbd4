// What a config.json says of its rotary embedding: base, the part of a head
// that turns, and `rope_scaling`, or `rope_parameters` as newer releases of
// transformers write all of it.
#ifndef OUNCE_MODEL_DECODER_ROPE_CONFIG_H_
#define OUNCE_MODEL_DECODER_ROPE_CONFIG_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/config_reader.h"
#include "model/layers/rope.h"
#include "nlohmann/json_fwd.hpp"

namespace ounce::model {

// What a config class calls them, and what is taken where it says nothing. A
// class whose heads turn as a whole has no `partial`.
struct RopeKeys {
  std::string_view base = "rope_theta";
  double absent_base = 10000;
  std::string_view partial = "";
  double absent_partial = 1;
};

// Of heads of `head_dim` at positions below `max_positions`, the config's
// max_position_embeddings, where those of a model with `dynamic` scaling must
// end (rope.h).
// Errors: kInvalidArgument for values that no network can be built of,
//   kUnimplemented for a type of scaling that is not supported, by name;
//   neither names the file.
absl::StatusOr<RopeSpec> ReadRope(const nlohmann::json& config,
                                  RopePairing pairing, int64_t head_dim,
                                  int64_t max_positions,
                                  const RopeKeys& keys = {});

// The same where errors go to `reader`.
RopeSpec ReadRope(ConfigReader& reader, RopePairing pairing, int64_t head_dim,
                  int64_t max_positions, const RopeKeys& keys = {});

// As GPT-J and CodeGen have it: interleaved pairs of the first `rotary_dim`
// elements of a head, all of them if it is null. Errors go to `reader`.
RopeSpec ReadRotaryDim(ConfigReader& reader, int64_t head_dim);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_DECODER_ROPE_CONFIG_H_
