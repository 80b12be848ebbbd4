// Encoding and decoding speed of tokenizers, on one thread.
//
//   tokenizer_bench CODE_FILE PROSE_FILE [FOLDER...]
//
// A line per folder, without any per tokenizer of the goldens: MB/s (10^6 bytes
// of text a second of CPU time) of encoding the code, the prose and texts made
// to be slow (long words, where every merge is one of many; runs; words that no
// cache remembers), and of decoding the code.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bench/timing.h"
#include "model/tokenizer/tokenizer.h"

namespace ounce::model {
namespace {

using bench::ProcessCpuSeconds;

constexpr size_t kTextBytes = 2'000'000;
constexpr char kGoldens[] = "tests/golden/tokenizer/families";

struct Text {
  const char* name;
  std::string text;
};

// The file again and again, cut at a character.
std::string Repeated(const char* path) {
  std::ifstream in(path, std::ios::binary);
  const std::string once{std::istreambuf_iterator<char>(in), {}};
  std::string text;
  while (!once.empty() && text.size() < kTextBytes) text += once;
  text.resize(ValidUtf8Prefix(text.substr(0, kTextBytes)));
  return text;
}

std::string RandomLetters(const std::string& letters) {
  std::mt19937 random(1);
  std::string text(kTextBytes, ' ');
  for (char& c : text) c = letters[random() % letters.size()];
  return text;
}

std::vector<Text> MakeTexts(const char* code, const char* prose) {
  const std::string alphabet = "abcdefghijklmnopqrstuvwxyz";
  return {{"code", Repeated(code)},
          {"prose", Repeated(prose)},
          {"aaa", std::string(kTextBytes, 'a')},
          {"letters", RandomLetters(alphabet)},
          {"etaon", RandomLetters("etaon")},
          {"words", RandomLetters(alphabet + "     ")},
          {"spaces", std::string(kTextBytes, ' ')},
          {"lines", std::string(kTextBytes, '\n')},
          {"!!!", std::string(kTextBytes, '!')}};
}

// False, after a message, when the folder or a text cannot be read.
bool Measure(const std::string& folder, const std::vector<Text>& texts) {
  const auto tokenizer = Tokenizer::Load(folder);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return false;
  }
  const std::string name = std::filesystem::path(folder).filename();
  std::printf("%-20s %7d", name.c_str(), (*tokenizer)->size());
  double decode_speed = 0;
  for (const Text& text : texts) {
    const double megabytes = static_cast<double>(text.text.size()) / 1e6;
    double start = ProcessCpuSeconds();
    const auto ids = (*tokenizer)->Encode(text.text);
    const double encode_seconds = ProcessCpuSeconds() - start;
    if (!ids.ok()) {
      std::fprintf(stderr, "%s: %s\n", text.name,
                   ids.status().ToString().c_str());
      return false;
    }
    std::printf(" %8.1f", megabytes / encode_seconds);
    if (&text != &texts.front()) continue;
    start = ProcessCpuSeconds();
    const std::string back = (*tokenizer)->Decode(*ids, false);
    decode_speed =
        static_cast<double>(back.size()) / 1e6 / (ProcessCpuSeconds() - start);
  }
  std::printf(" %8.1f\n", decode_speed);
  std::fflush(stdout);
  return true;
}

std::vector<std::string> GoldenFolders() {
  std::vector<std::string> folders;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens)) {
    if (std::filesystem::exists(entry.path() / "tokenizer.json")) {
      folders.push_back(entry.path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: tokenizer_bench CODE_FILE PROSE_FILE [FOLDER...]\n");
    return 2;
  }
  std::vector<std::string> folders(argv + 3, argv + argc);
  if (folders.empty()) folders = GoldenFolders();
  const std::vector<Text> texts = MakeTexts(argv[1], argv[2]);
  std::printf("%-20s %7s", "MB/s", "tokens");
  for (const Text& text : texts) std::printf(" %8s", text.name);
  std::printf(" %8s\n", "decode");
  bool ok = true;
  for (const std::string& folder : folders) ok &= Measure(folder, texts);
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace ounce::model

int main(int argc, char** argv) { return ounce::model::Main(argc, argv); }
