// What tokenizers say that they take of memory. Its own program, since it
// measures by replacing the global operator new.

#include <malloc.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/heap_tells.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace {

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};

int64_t Taken(void* memory) {
  return static_cast<int64_t>(malloc_usable_size(memory) + sizeof(size_t));
}

void* Allocate(size_t size) {
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  const int64_t live = live_bytes.fetch_add(Taken(memory)) + Taken(memory);
  if (live > peak_bytes.load()) peak_bytes.store(live);
  return memory;
}

void Release(void* memory) {
  if (memory != nullptr) live_bytes.fetch_sub(Taken(memory));
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size);
}
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete[](void* memory) noexcept { Release(memory); }
void operator delete(void* memory, size_t) noexcept { Release(memory); }
void operator delete[](void* memory, size_t) noexcept { Release(memory); }

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::kHeapTells;
using ::ounce::testing::TempFolder;

// Distinct tokens that grow by merging earlier ones, as those of BPE do.
struct Merged {
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;
};
Merged MergedTokens(size_t count) {
  Merged made;
  for (char c = '!'; c <= '~'; ++c) made.tokens.emplace_back(1, c);
  std::set<std::string> seen(made.tokens.begin(), made.tokens.end());
  std::mt19937 random(7);
  while (made.tokens.size() < count) {
    const std::string& left =
        made.tokens[random() % std::min<size_t>(20000, made.tokens.size())];
    const std::string& right = made.tokens[random() % 94];
    std::string token = left + right;
    if (token.size() > 24 || !seen.insert(token).second) continue;
    made.merges.emplace_back(left, right);
    made.tokens.push_back(std::move(token));
  }
  return made;
}

json Vocabulary(const std::vector<std::string>& tokens) {
  json vocabulary = json::object();
  for (const std::string& token : tokens) {
    const size_t id = vocabulary.size();
    vocabulary[token] = id;
  }
  return vocabulary;
}

json TokenizerOf(json model, bool byte_level) {
  const json step = {{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", true},
                     {"use_regex", true}};
  json added = json::array();
  for (int i = 0; i < 400; ++i) {
    added.push_back(
        {{"id", model["vocab"].size() + i},
         {"content", "<|a token that was added " + std::to_string(i) + "|>"},
         {"special", i % 2 == 0},
         {"normalized", i % 3 == 0},
         {"single_word", false},
         {"lstrip", false},
         {"rstrip", false}});
  }
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"pre_tokenizer", byte_level ? step : json()},
          {"decoder", byte_level ? step : json()},
          {"model", std::move(model)}};
}

json BpeModel(size_t count, bool pairs, bool ignore_merges) {
  const Merged merged = MergedTokens(count);
  json merges = json::array();
  for (const auto& [left, right] : merged.merges) {
    merges.push_back(pairs ? json::array({left, right})
                           : json(left + " " + right));
  }
  return {{"type", "BPE"},
          {"ignore_merges", ignore_merges},
          {"vocab", Vocabulary(merged.tokens)},
          {"merges", std::move(merges)}};
}

json UnigramModel(size_t count) {
  json vocabulary = json::array();
  for (const std::string& token : MergedTokens(count).tokens) {
    vocabulary.push_back({token, -1.5 * static_cast<double>(token.size())});
  }
  return {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocabulary}};
}

json WordsModel(const std::string& type, size_t count) {
  json model = {{"type", type},
                {"unk_token", "!"},
                {"vocab", Vocabulary(MergedTokens(count).tokens)}};
  if (type == "WordPiece") {
    model["continuing_subword_prefix"] = "##";
    model["max_input_chars_per_word"] = 100;
  }
  return model;
}

// Loads a folder and compares what it takes with what is said of it.
void CheckFolder(const std::string& folder) {
  SCOPED_TRACE(folder);
  const int64_t most = Tokenizer::MostLoadBytes(folder);
  const int64_t before = live_bytes.load();
  peak_bytes.store(before);
  ASSERT_OK_AND_ASSIGN(const auto tokenizer, Tokenizer::Load(folder));
  const int64_t peak = peak_bytes.load() - before;
  const int64_t held = live_bytes.load() - before;
  // Patterns are left out; the first one brings tables of Unicode with it.
  constexpr int64_t kPatterns = 64 << 10;
  if (kHeapTells) {
    EXPECT_NEAR(tokenizer->resident_bytes(), held, held / 50 + kPatterns);
  }
  EXPECT_LE(peak, most);
  EXPECT_LE(tokenizer->resident_bytes(), most);
  ::testing::Test::RecordProperty("held", std::to_string(held));
  ::testing::Test::RecordProperty("peak", std::to_string(peak));
}

void CheckJson(const json& file) {
  for (const int indent : {-1, 2}) {
    TempFolder folder;
    folder.WriteFile("tokenizer.json", file.dump(indent));
    CheckFolder(folder.path().string());
  }
}

TEST(TokenizerMemoryTest, BpeOfBytesTellsItsTables) {
  CheckJson(TokenizerOf(BpeModel(40000, false, false), true));
}

TEST(TokenizerMemoryTest, BpeOfWholeWordsTellsItsTables) {
  CheckJson(TokenizerOf(BpeModel(40000, true, true), true));
}

TEST(TokenizerMemoryTest, BpeOfCharactersTellsItsTables) {
  CheckJson(TokenizerOf(BpeModel(40000, true, false), false));
}

TEST(TokenizerMemoryTest, UnigramTellsItsTables) {
  CheckJson(TokenizerOf(UnigramModel(40000), false));
}

TEST(TokenizerMemoryTest, ModelsOfWordsTellTheirTables) {
  CheckJson(TokenizerOf(WordsModel("WordPiece", 40000), false));
  CheckJson(TokenizerOf(WordsModel("WordLevel", 40000), false));
}

TEST(TokenizerMemoryTest, OlderFilesAreBoundedToo) {
  const Merged merged = MergedTokens(40000);
  std::string merges;
  for (const auto& [left, right] : merged.merges) {
    merges += left + " " + right + "\n";
  }
  TempFolder folder;
  folder.WriteFile("vocab.json", Vocabulary(merged.tokens).dump());
  folder.WriteFile("merges.txt", merges);
  CheckFolder(folder.path().string());
}

TEST(TokenizerMemoryTest, AVocabularyOfAQuarterMillionTakesFewMegabytes) {
  TempFolder folder;
  folder.WriteFile("tokenizer.json",
                   TokenizerOf(BpeModel(256000, true, false), true).dump(2));
  CheckFolder(folder.path().string());
  ASSERT_OK_AND_ASSIGN(const auto tokenizer,
                       Tokenizer::Load(folder.path().string()));
  EXPECT_LE(tokenizer->resident_bytes(), 256000 * 80);
}

TEST(TokenizerMemoryTest, AFolderWithoutFilesTakesNothing) {
  TempFolder folder;
  EXPECT_EQ(Tokenizer::MostLoadBytes(folder.path().string()), 0);
}

TEST(TokenizerMemoryTest, EveryFamilyTellsItsTables) {
  for (const auto& entry :
       std::filesystem::directory_iterator(GoldenPath("families"))) {
    // Of some there are ids alone.
    const std::string folder = entry.path().string();
    if (Tokenizer::MostLoadBytes(folder) > 0) CheckFolder(folder);
  }
}

TEST(TokenizerMemoryTest, PublishedTokenizersTellTheirTables) {
  const char* shared = std::getenv("OUNCE_SHARED_DATA");
  const std::string root = shared == nullptr ? "../shared/data" : shared;
  for (const char* name : {"tokenizer-codegen", "tinystories-656k"}) {
    const std::string folder = root + "/" + name;
    if (!std::filesystem::exists(folder)) {
      GTEST_SKIP() << folder
                   << " is absent; OUNCE_SHARED_DATA names its folder";
    }
    CheckFolder(folder);
  }
}

}  // namespace
}  // namespace ounce::model
