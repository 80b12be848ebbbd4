#include "model/tokenizer/token_decoder.h"

#include <string>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/byte_source.h"
#include "model/tokenizer/decoders.h"
#include "model/tokenizer/step_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using nlohmann::json;
using DecoderStepOr = absl::StatusOr<std::unique_ptr<const DecoderStep>>;

#define DECODER_STEP(type, maker) \
  DecoderStepOr maker(const json& step, const DecoderPlace& place);
#include "model/tokenizer/decoders.def"
#undef DECODER_STEP

namespace {

constexpr char kPart[] = "decoder";

struct Entry {
  std::string_view type;
  DecoderStepOr (*make)(const json&, const DecoderPlace&);
};

constexpr Entry kDecoderSteps[] = {
#define DECODER_STEP(type, maker) {#type, &maker},
#include "model/tokenizer/decoders.def"
#undef DECODER_STEP
};

DecoderStepOr Make(const json& step, const DecoderPlace& place) {
  ASSIGN_OR_RETURN(const std::string type, TypeOf(kPart, step));
  for (const Entry& entry : kDecoderSteps) {
    if (entry.type != type) continue;
    DecoderStepOr made = entry.make(step, place);
    if (!made.ok()) {
      return WithContext(made.status(), StrCat(kPart, " ", type));
    }
    return made;
  }
  return absl::UnimplementedError(
      StrCat(kPart, ": type ", Quoted(type), " is not supported"));
}

}  // namespace

absl::StatusOr<DecoderSteps> MakeDecoderSteps(const json* decoder) {
  ASSIGN_OR_RETURN(const std::vector<const json*> steps,
                   Steps(kPart, decoder, "decoders"));
  DecoderSteps made;
  if (decoder == nullptr) made.push_back(MakeSpaceJoiner());
  DecoderPlace place;
  for (size_t i = 0; i < steps.size(); ++i) {
    place.last = i + 1 == steps.size();
    ASSIGN_OR_RETURN(made.emplace_back(), Make(*steps[i], place));
    place.fused |= made.back()->fuses();
  }
  return made;
}

}  // namespace ounce::model
