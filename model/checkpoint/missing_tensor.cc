#include "model/checkpoint/missing_tensor.h"

#include <map>

#include "base/str_cat.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

struct Wrapper {
  std::string_view prefix;
  std::string_view what;
};

constexpr Wrapper kWrappers[] = {
    {"_orig_mod.", "it was saved from a model that torch.compile had wrapped"},
    {"module.", "it was saved from a model that DataParallel had wrapped"},
    {"base_model.model.", "it was saved from a model that PEFT had wrapped"},
};

}  // namespace

std::string WhyMissing(const Checkpoint& checkpoint, std::string_view name) {
  const std::map<std::string, std::string> lacking = checkpoint.lacking();
  if (!lacking.empty()) {
    // Without this name, what is asked for may have another prefix than what
    // is there; then any of them tells.
    auto one = lacking.find(std::string(name));
    if (one == lacking.end()) one = lacking.begin();
    return StrCat("; by the index ", Quoted(one->first), " is in ",
                  Quoted(one->second),
                  ", which does not have it: the shards are of different "
                  "checkpoints, or one was not saved whole; download all of "
                  "them again");
  }
  for (const auto& [other, info] : checkpoint.tensors()) {
    if (other.find(".lora_") != std::string::npos) {
      return StrCat("; '", other,
                    "' belongs to a PEFT adapter: merge it into its base model "
                    "(merge_and_unload) and serve what that saves");
    }
    if (other.size() > name.size() && other.ends_with(name)) {
      const std::string_view prefix =
          std::string_view(other).substr(0, other.size() - name.size());
      std::string_view what = "save the model without that prefix";
      for (const Wrapper& wrapper : kWrappers) {
        if (wrapper.prefix == prefix) what = wrapper.what;
      }
      return StrCat(
          "; the weights have it as '", other, "': ", what,
          what.starts_with("it was") ? "; save the model inside instead" : "");
    }
  }
  if (name == "lm_head.weight" || name == "embed_out.weight") {
    return "; the checkpoint was saved without its head, which no answer can "
           "be "
           "made without: save the model's ForCausalLM form, or if its head is "
           "its embedding, set 'tie_word_embeddings' to true in config.json";
  }
  return "";
}

}  // namespace ounce::model
