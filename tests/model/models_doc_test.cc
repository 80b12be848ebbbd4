// Writes docs/models.md from architectures.def, the tables of keys and the
// goldens, and holds the page to them.

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "model/config_reader.h"
#include "model/registry.h"
#include "nlohmann/json.hpp"
#include "tests/testing/written_page.h"

namespace ounce::model {
namespace {

using Use = ConfigKey::Use;

constexpr char kIntroduction[] =
    R"(# Models

A folder in Hugging Face's layout is served as it was published, if its
`config.json` has one of these `model_type`s. Nothing is converted, and no code of
the checkpoint's runs.

)";

constexpr char kWhatAllShare[] = R"(
## What is the same for all

**Files.** `config.json`, `generation_config.json` if there is one, and weights in
`.safetensors` or `pytorch_model.bin`, whole or in shards, in float32, float16 or
bfloat16. Weights of the network's body may be named with its prefix
(`transformer.`, `model.`, ...) or without. Masks and rotary frequencies that older
releases of transformers stored are ignored. A head beside a tied embedding must
equal it. Any other tensor of the network's own is an error; other names, such as
`score` of a classifier, are reported as not used.

**Tokenizers.** `tokenizer.json`, or else `tokenizer.model` of SentencePiece (Llama's and
Gemma's: unigram or BPE), or `vocab.json` with `merges.txt`; and beside them what
`tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` add, as
transformers' fast tokenizers have it. A folder without one is refused, also where
prompts come as ids. A model may have more tokens than its tokenizer (a vocabulary
padded to a round number): those are never generated. One that has more tokens than
its model loads too; a text that holds one of them is refused. `tokenizer.json` may
have 50 MB, a pattern in it 65,536 bytes; patterns mean what Oniguruma has them mean,
and what cannot be said exactly otherwise is refused by name. All patterns together
may take a second of CPU time for a text and one more for each MB of it; one that takes
longer ends the call with RESOURCE_EXHAUSTED.

**Configs.** Every parameter of the config class in transformers TRANSFORMERS is in one of
three lists below. An absent key has the class's default. What must have a value,
or stands there with what is taken in brackets, is refused by name if it has another
one; so are numbers that no network can be built of, with the key and the file.

**Text models.** Activations: relu, gelu (exact and by tanh, under all their names)
and silu. Rotary scaling (`rope_scaling`, or `rope_parameters` of transformers 5):
default, linear, llama3, yarn, and dynamic, which is the same as none up to
`max_position_embeddings`; no request may go beyond that many positions.
`eos_token_id` is read of `generation_config.json`, then of `config.json`.

**Checked how.** Each golden checkpoint is a tiny network in the published layout,
made by transformers TRANSFORMERS (`tools/make_decoder_goldens.py`); each way in which
families name a layer's matrices is there in all four forms of files. In float32 all its logits
are within 1e-4 of transformers', and 64 greedy tokens are the same; alone, in a
batch of unequal prompts and with the prompt cut in pieces the logits are equal to
the bit, on every instruction set. DETR's logits and boxes are within 1e-4 as well. That
absent keys have the class's defaults, that unused keys change no bit and that the rest
is refused, is tested key by key for every text model.
)";

nlohmann::json Classes() {
  return nlohmann::json::parse(
      std::ifstream(OUNCE_SOURCE_ROOT "/tests/golden/config_classes.json"));
}

bool IsText(const Architecture& architecture) {
  return architecture.name != "detr";
}

std::vector<std::string> Goldens(const Architecture& architecture) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  for (const char* parent : {"/tests/golden/decoder/", "/tests/golden/"}) {
    std::error_code none;
    const std::string folder =
        absl::StrCat(OUNCE_SOURCE_ROOT, parent, std::string(architecture.name));
    for (const auto& entry : fs::directory_iterator(folder, none)) {
      if (!fs::exists(entry.path() / "config.json")) continue;
      names.push_back(absl::StrCat("`", entry.path().filename().string(), "`"));
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// "`a`, `b` (what is taken)" of the keys of one use; "–" if there are none.
std::string Keys(absl::Span<const ConfigKey> keys, Use use) {
  std::vector<std::string> names;
  for (const ConfigKey& key : keys) {
    if (key.use != use) continue;
    std::string text = absl::StrCat("`", std::string(key.name), "`");
    const std::string values = absl::StrReplaceAll(
        std::string(key.values), {{"|", use == Use::kMustBe ? " or " : "|"}});
    if (use == Use::kMustBe) {
      absl::StrAppend(&text, " = ", values);
    } else if (!values.empty()) {
      absl::StrAppend(&text, " (", values, ")");
    }
    names.push_back(text);
  }
  return names.empty() ? "–" : absl::StrJoin(names, ", ");
}

std::string KeyTable(absl::Span<const ConfigKey> keys) {
  return absl::StrCat("| Keys of `config.json` | |\n|---|---|\n| Read | ",
                      Keys(keys, Use::kRead), " |\n| Must be | ",
                      Keys(keys, Use::kMustBe), " |\n| Change nothing | ",
                      Keys(keys, Use::kUnused), " |\n");
}

std::string Page() {
  const nlohmann::json classes = Classes();
  std::string page = kIntroduction;
  absl::StrAppend(&page,
                  "| `model_type` | Models people know | For | Golden "
                  "checkpoints |\n|---|---|---|---:|\n");
  for (const Architecture* architecture : AllArchitectures()) {
    const std::string name(architecture->name);
    absl::StrAppend(&page, "| [`", name, "`](#", name, ") | ",
                    std::string(architecture->models), " | ",
                    IsText(*architecture) ? "text" : "objects in pictures",
                    " | ", Goldens(*architecture).size(), " |\n");
  }
  const std::string version = classes["transformers"];
  absl::StrAppend(
      &page, absl::StrReplaceAll(kWhatAllShare, {{"TRANSFORMERS", version}}));
  for (const Architecture* architecture : AllArchitectures()) {
    const std::string name(architecture->name);
    const std::string of = classes["classes"][name]["class"];
    absl::StrAppend(
        &page, "\n## ", name, "\n\n", std::string(architecture->models), ". `",
        of, "` of transformers. Goldens: ",
        absl::StrJoin(Goldens(*architecture), ", "), ".\n\n",
        KeyTable(architecture->keys),
        architecture->takes_published_code
            ? "\nThe code that published checkpoints name in `auto_map` is not "
              "run: transformers has taken it in.\n"
            : "");
  }
  absl::StrAppend(&page,
                  "\n## Keys of every text model\n\nBeside those of its own "
                  "class.\n\n",
                  KeyTable(CommonConfigKeys()));
  return page;
}

TEST(ModelsDocTest, IsWhatTheCodeSays) {
  ounce::testing::ExpectWritten(OUNCE_SOURCE_ROOT "/docs/models.md", Page());
}

}  // namespace
}  // namespace ounce::model
